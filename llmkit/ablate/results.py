"""What a study found: the one document that the report, the tables and `--json` are made from, and that lies in `results.json`.

Torch-free, and free of the statistics: who reads a finished study needs neither.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "confounded", "unstable"]
Ending = Literal["finished", "diverged", "crashed", "missing"]


class Part(BaseModel):
    """A part of the results: frozen, and nothing in it that JSON does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(Part):
    """One run of a study: an arm with one seed."""

    arm: str
    seed: int
    key: str = Field(description="identity: of the filled spec, the catalog and the versions")
    directory: str | None = Field(None, description="where the run lies, relative to the study's directory")
    ending: Ending
    reason: str | None = Field(None, description="why it did not finish")
    value: float | None = Field(None, description="the study's metric at the end of training")
    curve: list[tuple[int, float]] = Field(default_factory=list, description="(tokens, the metric), on the way and at the end")
    tokens: int | None = None
    seconds: float | None = Field(None, description="wall-clock seconds of the whole cell")
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None


class Judgement(Part):
    """What the statistics say of one arm against the baseline. The baseline's own has only `seeds`, `mean` and `deviation`."""

    arm: str
    seeds: list[int] = Field(description="those with a value in this arm; differences are over those that the baseline has as well")
    mean: float | None = None
    deviation: float | None = Field(None, description="standard deviation over the seeds")
    difference: float | None = Field(None, description="mean of the paired differences, arm minus baseline, in the metric's unit")
    interval: tuple[float, float] | None = Field(None, description="of the difference, at 1 - alpha; of all looks where sequential")
    differences: dict[int, float] = Field(default_factory=dict, description="by seed")
    p: float | None = None
    p_adjusted: float | None = Field(None, description="Holm's, over the arms")
    p_sign_flip: float | None = Field(None, description="of the exact sign-flip test; decides nothing")
    p_equivalent: float | None = Field(None, description="the larger of the two one-sided tests' p; None without a margin")
    e_value: float | None = Field(None, description="evidence against no difference, where the study looks after every seed")
    noise: float | None = Field(None, description="standard deviation of the paired differences: the noise floor")
    resolvable: float | None = Field(None, description="smallest true difference that these seeds find with power 0.8")
    more_seeds: int | None = Field(None, description="how many more would settle it, where it is inconclusive")
    verdict: Verdict | None = None
    reason: str | None = Field(None, description="the verdict in one sentence")


class Worth(Part):
    """A difference in tokens: how many more (positive) or fewer of its tokens the baseline would have needed to end where the arm ended."""

    fraction: float = Field(description="of the training tokens; 0.07: the arm is worth 7% of them, -0.07: it costs 7% of them")
    interval: tuple[float, float] | None = None
    words: str = Field(description="such as `worth 7% (4-10%) of the training tokens`")


class Difference(Part):
    """An address of the filled spec at which an arm and the baseline differ."""

    address: str
    baseline: Any
    value: Any
    derived: bool = Field(False, description="whether it follows from another difference, or was turned to match the arms")


class Tuned(Part):
    """What was searched for an arm, on seeds of its own."""

    trials: list[dict[str, Any]] = Field(description="settings by address, `values` by seed, `mean`")
    chosen: dict[str, Any] = Field(description="settings by address")
    at_edge: bool = Field(False, description="whether the best lies at the edge of what was tried even after the range was extended")
    fixed: Judgement | None = Field(None, description="the arm's judgement with the spec's own settings, nothing tuned")


class ArmResult(Part):
    """An arm: what it is, what it costs, and what was found."""

    name: str
    choices: dict[str, str] = Field(default_factory=dict, description="axis -> alternative")
    differences: list[Difference] = Field(default_factory=list)
    confounders: list[str] = Field(default_factory=list, description="what differs besides the thing under study, in words")
    matched: str | None = Field(None, description="what was turned to match the baseline and how near it came, in words")
    parameters: dict[str, int] = Field(default_factory=dict, description="total, embedding, non_embedding")
    flops_per_token: dict[str, float] = Field(default_factory=dict, description="forward, training")
    kv_cache_bytes_per_token: float | None = None
    tokens: int | None = Field(None, description="that each of its runs reads")
    tokens_per_second: float | None = Field(None, description="median over its cells")
    peak_memory_bytes: int | None = None
    cells: list[Cell] = Field(default_factory=list)
    judgement: Judgement
    worth: Worth | None = None
    tuned: Tuned | None = None


class Amendment(Part):
    """A change of the study after its first run."""

    when: str = Field(description="UTC, ISO 8601")
    address: str
    was: Any
    now: Any


class StudyResult(Part):
    """A whole study, as it stands."""

    study: str
    hash: str = Field(description="of the study as it was frozen")
    baseline: str
    metric: str
    higher_is_better: bool = False
    alpha: float = 0.05
    equivalence: float | None = None
    match: str = "none"
    sequential: bool = Field(False, description="whether it looked after every seed")
    complete: bool = Field(True, description="whether every planned cell has ended")
    arms: list[ArmResult]
    amendments: list[Amendment] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    command: str = Field("", description="what reproduces it")
    created: str = Field("", description="UTC, ISO 8601: the first run")
    llmkit: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = Field(None, description="wall-clock seconds over all calls")

    def document(self) -> dict[str, Any]:
        """As `--json` prints it: `arms` with the judgement's keys beside the arm's own."""
        document = self.model_dump(mode="json")
        for arm in document["arms"]:
            judgement = arm.pop("judgement")
            arm |= {key: value for key, value in judgement.items() if key != "arm" and key not in ("differences",)}
            arm["paired_differences"] = judgement["differences"]
        return document
