"""What a study found, in sentences: the same ones in the page and in the Markdown."""

# ruff: noqa: RUF001 (typographic signs are meant)

from __future__ import annotations

from collections.abc import Sequence

from llmkit.ablate.results import ArmResult, Cell, StudyResult
from llmkit.typeset.digits import between, count, given, half_width, measured, percent, spread
from llmkit.typeset.sentence import Named, Sentence, joined, many

UNITS = {"val_bits_per_byte": "bits per byte", "val_loss": "nats per token"}
METRICS = {"val_bits_per_byte": "validation bits per byte", "val_loss": "validation loss"}
HEADS = {"val_bits_per_byte": ("bits per byte", "validation"), "val_loss": ("validation loss", "nats per token")}
LISTED = 5
"""Arms that a sentence names before it only counts them."""


def metric_of(result: StudyResult) -> str:
    """The metric as it is called in a table: with words where it is one of the training's own, else its own name."""
    return METRICS.get(result.metric, result.metric)


def unit_of(result: StudyResult) -> str:
    """What the metric is counted in; empty for an evaluator's."""
    return UNITS.get(result.metric, "")


def axis_of(result: StudyResult) -> str:
    """The metric as it is called at an axis, with its unit."""
    unit = unit_of(result)
    metric = metric_of(result)
    return metric if unit in metric else f"{metric}, {unit}"


def head_of(result: StudyResult) -> tuple[str, str]:
    """The metric as the head of a column, in two short lines."""
    return HEADS.get(result.metric, (result.metric, ""))


def direction_of(result: StudyResult) -> str:
    """Which way is good."""
    return "higher is better" if result.higher_is_better else "lower is better"


def baseline_of(result: StudyResult) -> ArmResult | None:
    """The arm that the others are compared with, if it is there."""
    return next((arm for arm in result.arms if arm.name == result.baseline), None)


def compared(result: StudyResult) -> list[ArmResult]:
    """The arms besides the baseline, in the study's order."""
    return [arm for arm in result.arms if arm.name != result.baseline]


def ordered(result: StudyResult) -> list[ArmResult]:
    """The baseline, then the others in the study's order: how every table and figure lists them."""
    return [arm for arm in result.arms if arm.name == result.baseline] + compared(result)


def failures(result: StudyResult) -> list[Cell]:
    """Runs that diverged or crashed."""
    return [cell for arm in ordered(result) for cell in arm.cells if cell.ending in ("diverged", "crashed")]


def seeds_of(result: StudyResult) -> list[int]:
    """Every seed that some arm was run with or judged on."""
    return sorted({seed for arm in result.arms for seed in (*arm.judgement.seeds, *(cell.seed for cell in arm.cells))})


def byline(result: StudyResult) -> str:
    """The study in a line: how many arms and seeds, what was measured, and when."""
    arms = len(compared(result))
    told = [f"{many(arms, 'arm')} and a baseline", many(len(seeds_of(result)), "seed"), f"{metric_of(result)}, {direction_of(result)}"]
    return " · ".join([*told, result.created[:10]] if result.created else told)


def paired(result: StudyResult) -> bool:
    """Whether runs with the same seed were compared with each other; a table of numbers need not have such seeds."""
    return any(arm.judgement.differences for arm in result.arms) or not any(arm.judgement.interval for arm in result.arms)


def interval_words(result: StudyResult) -> str:
    """What kind of interval stands behind a difference."""
    level = percent(1 - result.alpha)
    return f"{level} confidence sequence" if result.sequential else f"{level} interval"


def mean_words(arm: ArmResult) -> str:
    """The final metric as mean and deviation: `0.9134 ± 0.0021`."""
    judgement = arm.judgement
    if judgement.deviation is None:
        return measured(judgement.mean)
    return f"{measured(judgement.mean, judgement.deviation)} ± {spread(judgement.deviation)}"


def difference_words(arm: ArmResult) -> str:
    """The difference, to the digit that its interval warrants."""
    judgement = arm.judgement
    return measured(judgement.difference, half_width(judgement.interval) or judgement.noise, sign=True)


def margin_words(result: StudyResult) -> str:
    """The margin of equivalence, as the study says it."""
    return "" if result.equivalence is None else f"±{given(result.equivalence)}"


def summary(result: StudyResult) -> list[Sentence]:
    """The verdicts in one or two sentences: what is decided, and what is not."""
    arms = compared(result)
    if not arms:
        return [_alone(result)]
    by_verdict = {arm.judgement.verdict: [other for other in arms if other.judgement.verdict == arm.judgement.verdict] for arm in arms}
    decided = [_decided(word, by_verdict[word]) for word in ("better", "worse") if word in by_verdict]
    open_ = [
        told(result, by_verdict[verdict])
        for verdict, told in (
            ("equivalent", _equivalent),
            ("inconclusive", _inconclusive),
            ("confounded", _confounded),
            ("unstable", _unstable),
            (None, _unjudged),
        )
        if verdict in by_verdict
    ]
    first = [
        "Against the baseline ",
        Named(result.baseline),
        _over(result),
        ", ",
        *joined(decided or [["no arm is shown to be better or worse"]]),
        ".",
    ]
    return [first, [*joined(open_, "; ", "; "), "."]] if open_ else [first]


def method(result: StudyResult) -> list[str]:
    """Which test decides, and what it is corrected for: two sentences that a reviewer looks for."""
    level, alpha = percent(1 - result.alpha), given(result.alpha)
    margin = margin_words(result)
    if result.sequential:
        same = f"; “equivalent” where the sequence lies within {margin}" if margin else ""
        return [
            "The study looked after every seed, and an anytime-valid test decides: a t-test e-process on the paired differences "
            f"(right-Haar prior on the scale), at α = {alpha} with Holm’s correction over the arms{same}.",
            f"Intervals are {level} confidence sequences of the mean paired difference, which hold at all looks and for all arms together; "
            "the exact sign-flip p is shown beside and decides nothing.",
        ]
    same = f"; “equivalent” by two one-sided t-tests within {margin}" if margin else ""
    if not paired(result):
        return [
            f"A two-sided Welch t-test decides, at α = {alpha} with Holm’s correction over the arms{same}.",
            f"Intervals are {level} t-intervals of the difference of the means, arm minus baseline: seeds are not paired.",
        ]
    return [
        f"A two-sided paired t-test over the seeds decides, at α = {alpha} with Holm’s correction over the arms{same}.",
        f"Intervals are {level} t-intervals of the mean paired difference, arm minus baseline; "
        "the exact sign-flip p is shown beside and decides nothing.",
    ]


def failure_words(cell: Cell) -> str:
    """How a run ended that did not finish."""
    return f"{cell.ending}: {cell.reason}" if cell.reason else cell.ending


def progress_words(result: StudyResult) -> str | None:
    """That the study goes on; None where it has ended."""
    if result.complete:
        return None
    cells = [cell for arm in result.arms for cell in arm.cells]
    ended = sum(cell.ending != "missing" for cell in cells)
    told = f": {ended} of {len(cells)} runs have ended" if cells else ""
    return f"This study is not complete{told}. What follows is what it knows so far, and may change."


def _alone(result: StudyResult) -> Sentence:
    baseline = baseline_of(result)
    if baseline is None or baseline.judgement.mean is None:
        return ["No arm has a value yet."]
    return [
        "Only the baseline has values: ",
        Named(baseline.name),
        f" ends at {mean_words(baseline)} {unit_of(result)}".rstrip() + _over(result) + ".",
    ]


def _over(result: StudyResult) -> str:
    shared = [len(arm.judgement.differences) for arm in compared(result) if arm.judgement.differences]
    if not shared:
        most = max(len(arm.judgement.seeds) for arm in result.arms)
        return f" over {many(most, 'seed')}" if most else ""
    low, high = min(shared), max(shared)
    return f" over {many(high, 'paired seed')}" if low == high else f" over {low} to {high} paired seeds"


def _decided(word: str, arms: Sequence[ArmResult]) -> Sentence:
    """Such as `gqa is better (-0.012 [-0.016, -0.009]; worth 7% of the training tokens)`."""
    verb = "is" if len(arms) == 1 else "are"
    if len(arms) > LISTED:
        return [f"{len(arms)} arms are {word} (", *_names(arms), ")"]
    named: list[Sentence] = []
    for arm in arms:
        judgement = arm.judgement
        told = "" if judgement.difference is None else f" ({difference_words(arm)} {between(judgement.interval)}"
        if told and arm.worth is not None:
            told += f"; {arm.worth.words}"
        named.append([Named(arm.name), told + (")" if told else "")])
    return [*joined(named), f" {verb} {word}"]


def _equivalent(result: StudyResult, arms: Sequence[ArmResult]) -> Sentence:
    margin = margin_words(result)
    return [*_names(arms), f" {_be(arms)} equivalent" + (f" within {margin}" if margin else "")]


def _inconclusive(result: StudyResult, arms: Sequence[ArmResult]) -> Sentence:
    more = [(arm, arm.judgement.more_seeds) for arm in arms if arm.judgement.more_seeds]
    told: Sentence = [*_names(arms), f" {_be(arms)} inconclusive"]
    if len(arms) == 1 and more:
        return [*told, f" (about {many(more[0][1] or 0, 'more seed')} would settle it if that is the difference)"]
    if more:
        listed = joined([[Named(arm.name), f" {count(seeds)}"] for arm, seeds in more[:LISTED]])
        return [*told, " (more seeds that would settle it if that is the difference: ", *listed, ")"]
    return told


def _confounded(result: StudyResult, arms: Sequence[ArmResult]) -> Sentence:
    return [*_names(arms), f" {_be(arms)} confounded, so no verdict on {'it' if len(arms) == 1 else 'them'} is given"]


def _unstable(result: StudyResult, arms: Sequence[ArmResult]) -> Sentence:
    failed = {arm.name: [cell for cell in arm.cells if cell.ending in ("diverged", "crashed")] for arm in arms}
    told: Sentence = [*_names(arms), f" {_be(arms)} unstable"]
    if len(arms) == 1 and (cells := failed[arms[0].name]):
        return [*told, f" ({len(cells)} of {many(len(arms[0].cells), 'run')} did not finish)"]
    return told


def _unjudged(result: StudyResult, arms: Sequence[ArmResult]) -> Sentence:
    return [*_names(arms), f" {'has' if len(arms) == 1 else 'have'} no verdict yet"]


def _be(arms: Sequence[ArmResult]) -> str:
    return "is" if len(arms) == 1 else "are"


def _names(arms: Sequence[ArmResult]) -> Sentence:
    named: list[Sentence] = [[Named(arm.name)] for arm in arms[:LISTED]]
    if len(arms) > LISTED:
        named.append([f"{len(arms) - LISTED} more"])
    return joined(named)
