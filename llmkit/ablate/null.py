"""A/A calibration: arms that differ in nothing but chance, through real runs. How often does the study call one better or worse?

Every arm is the study's baseline with a salt of its own: cell (arm k, seed s) draws its initial values (or the order of its data, or both)
from seed k L + s instead of s, and is otherwise the same run. Without a salt all arms would be equal to the bit.

Two things are counted. What the study itself would have said, every arm against the baseline after Holm's correction: any `better` or
`worse` at all is to happen in at most alpha of such calibrations. And single comparisons, uncorrected, of pairs of arms that share no
run: each is false with probability alpha, independently, so that their number is binomial. The spread of the paired differences is the
noise floor of this spec.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from llmkit.ablate.arms import filled_specs
from llmkit.ablate.results import ArmResult, Judgement, StudyResult
from llmkit.ablate.run import run_study
from llmkit.ablate.study import Study, load_study
from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.data.durable import told, write_whole

Salt = Literal["init", "data", "both"]

SALTS: tuple[str, ...] = get_args(Salt)

ARMS = 20

APART = 1_000_000
"""L: how far the seeds of two arms lie apart."""

SURE = 0.95
"""How often so few false comparisons are seen, where each is false with probability alpha."""


@dataclass(frozen=True)
class Null:
    """What the calibration found.

    pairs        comparisons that share no run, and all of whose runs have finished
    false_pairs  of them called better or worse, uncorrected; at most `most` in 95% of calibrations, and p that it is so many by chance
    false_arms   arms that the study would have called better or worse, after Holm's correction
    noise        standard deviation of the paired differences, over all pairs
    resolvable   smallest true difference that so many seeds find with the study's power
    """

    salt: str
    arms: int
    seeds: int
    alpha: float
    pairs: int
    false_pairs: int
    most: int
    p: float
    false_arms: list[str]
    noise: float | None
    resolvable: float | None

    @property
    def holds(self) -> bool:
        """Whether no more comparisons were false than chance allows."""
        return self.false_pairs <= self.most

    @property
    def words(self) -> str:
        """In one sentence."""
        figures = "" if self.noise is None else f"; noise floor {self.noise:.3g}"
        figures += "" if self.resolvable is None else f", and {self.seeds} seeds resolve {self.resolvable:.3g}"
        verdict = "as often as chance allows" if self.holds else "more often than chance allows"
        return (
            f"{self.false_pairs} of {self.pairs} comparisons of equal arms called one better or worse (at most {self.most} in "
            f"{SURE:.0%} of calibrations at alpha {self.alpha:g}): {verdict}{figures}"
        )


def run_null(
    study: Study, out: Path, *, arms: int = ARMS, salt: str = "init", catalog: Catalog | None = None, **run: Any
) -> tuple[StudyResult, Null]:
    """Run a calibration into a study's directory of its own; `run` is for `run_study`. Writes `null.json` beside the results.

    `UserError` where there are fewer than four arms, or an unknown salt.
    """
    result = run_study(null_study(study, arms, salt, catalog), out, catalog=catalog, seeding=salted, **run)
    found = calibration(result, salt, study.power)
    with told(f"{str(out / 'null.json')!r}", "every cell is as it was"):
        write_whole(out / "null.json", json.dumps(asdict(found) | {"holds": found.holds}, indent=1) + "\n")
    return result, found


def null_study(study: Study, arms: int, salt: str, catalog: Catalog | None = None) -> Study:
    """The study's baseline under so many names, each with a salt; judged as the study is."""
    if arms < 4:
        raise UserError(f"--arms {arms} are too few to calibrate with; give at least 4, of which every two are one comparison")
    if salt not in SALTS:
        raise UserError(f"--salt {salt!r} is none of {', '.join(SALTS)}")
    baseline = filled_specs(study, catalog)[study.baseline]
    names = [f"a{index:02}" for index in range(arms)]
    return load_study(
        {
            "name": f"{study.name}-null",
            "extends": baseline.model_dump(mode="json", exclude={"name"}),
            "axes": {"salt": {name: _salt(index, salt) for index, name in enumerate(names)}},
            "baseline": {"salt": names[0]},
            "seeds": list(study.seeds),
            "metric": study.metric,
            "higher_is_better": study.higher_is_better,
            "alpha": study.alpha,
            "power": study.power,
        },
        catalog=catalog,
    )


def salted(arm: str, spec: Spec, seed: int) -> Spec:
    """The cell of a salted arm: its streams are its own at every seed. One salt for all seeds would be a difference that is there."""
    train = spec.train
    own = {name: given + seed for name in ("init_seed", "data_seed") if (given := getattr(train, name)) is not None}
    return spec.model_copy(update={"train": train.model_copy(update={"seed": seed, **own})})


def calibration(result: StudyResult, salt: str, power: float) -> Null:
    """What a calibration's results say."""
    from scipy.stats import binom

    judgements = [one for one in _pairs(result, power) if one.verdict != "unstable"]
    false = sum(one.verdict in ("better", "worse") for one in judgements)
    pairs = len(judgements)
    return Null(
        salt=salt,
        arms=len(result.arms),
        seeds=max((len(arm.judgement.seeds) for arm in result.arms), default=0),
        alpha=result.alpha,
        pairs=pairs,
        false_pairs=false,
        most=int(binom.ppf(SURE, pairs, result.alpha)),
        p=float(binom.sf(false - 1, pairs, result.alpha)),
        false_arms=[arm.name for arm in result.arms if arm.judgement.verdict in ("better", "worse")],
        noise=_quadratic_mean([one.noise for one in judgements]),
        resolvable=_quadratic_mean([one.resolvable for one in judgements]),
    )


def _pairs(result: StudyResult, power: float) -> list[Judgement]:
    from llmkit.ablate.verdict import judge

    found = []
    for one, other in zip(result.arms[::2], result.arms[1::2], strict=False):
        judged = judge(
            {arm.name: _values(arm) for arm in (one, other)},
            one.name,
            alpha=result.alpha,
            higher_is_better=result.higher_is_better,
            sequential=result.sequential,
            power=power,
            metric=result.metric,
        )
        found.append(judged[1])
    return found


def _values(arm: ArmResult) -> dict[int, float | None]:
    return {cell.seed: cell.value for cell in arm.cells if cell.ending != "missing"}


def _salt(index: int, salt: str) -> dict[str, int]:
    if index == 0:
        return {}
    streams = {"init": ["init"], "data": ["data"], "both": ["init", "data"]}[salt]
    return {f"train.{stream}_seed": index * APART for stream in streams}


def _quadratic_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.sqrt(sum(value * value for value in known) / len(known)) if known else None
