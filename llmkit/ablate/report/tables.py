"""The tables of a study as text: the page and the Markdown set the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from llmkit.ablate.report.columns import columns
from llmkit.ablate.report.words import (
    compared,
    difference_words,
    failure_words,
    failures,
    interval_words,
    mean_words,
    ordered,
    paired,
    seeds_of,
)
from llmkit.ablate.results import ArmResult, Cell, Judgement, StudyResult
from llmkit.typeset.digits import ABSENT, count, duration, evidence, measured, probability, spread
from llmkit.typeset.table import ADDRESS, CODE, NUMBER, PROSE, WORD, Entry, Head, Row, Table, narrowed


def results(result: StudyResult) -> Table:
    """The table of results."""
    shown = columns(result)
    heads = [Head(column.head, column.unit, WORD if column.key == "verdict" else NUMBER, column.key) for column in shown]
    rows = [Row(arm.name, [column.entry(arm) for column in shown], index) for index, arm in enumerate(ordered(result))]
    difference = "mean paired difference" if paired(result) else "difference"
    note = (
        f"What each arm costs, and what it reached: mean ± standard deviation over the seeds; "
        f"in brackets the {interval_words(result)} of the {difference}."
    )
    return Table("results", "What the arms cost, and what they reached", "arm", heads, rows, note, anchor="arm")


def others(result: StudyResult) -> list[Table]:
    """The tables that stand behind the results, those that have something to tell."""
    every = (statistics(result), differences(result), matching(result), tuning(result), runs(result), ended(result), amendments(result))
    return [table for table in every if table.rows]


def statistics(result: StudyResult) -> Table:
    """What each verdict rests on."""
    told: list[tuple[Head, list[str]]] = []
    arms = compared(result)
    for head, values in (
        (Head("pairs"), [count(len(arm.judgement.differences)) if arm.judgement.differences else "" for arm in arms]),
        (Head("noise floor", "of pairs"), [_present(spread(arm.judgement.noise)) for arm in arms]),
        (Head("resolvable", "by these seeds"), [_present(spread(arm.judgement.resolvable)) for arm in arms]),
        (Head("more seeds", "would settle"), [_present(count(arm.judgement.more_seeds)) for arm in arms]),
        (Head("p", "unadjusted"), [_present(probability(arm.judgement.p)) for arm in arms]),
        (Head("p", "adjusted"), [_present(probability(arm.judgement.p_adjusted)) for arm in arms]),
        (Head("p", "sign-flip"), [_present(probability(arm.judgement.p_sign_flip)) for arm in arms]),
        (Head("p", "equivalence"), [_present(probability(arm.judgement.p_equivalent)) for arm in arms]),
        (Head("e-value"), [_present(evidence(arm.judgement.e_value)) for arm in arms]),
        (Head("why", kind=PROSE), [arm.judgement.reason or "" for arm in arms]),
    ):
        if any(values):
            told.append((head, values))
    rows = [Row(arm.name, [Entry(values[index]) for _, values in told], index + 1) for index, arm in enumerate(arms)] if told else []
    note = (
        "Noise floor: standard deviation of the paired differences. Resolvable: the smallest true difference that so many seeds find "
        "with power 0.8, unless the study asks for another. P-values of equivalence are not adjusted."
    )
    return Table("statistics", "What the verdicts rest on", "arm", [head for head, _ in told], rows, note)


def differences(result: StudyResult) -> Table:
    """Where the filled specs differ from the baseline's."""
    rows = [
        Row(
            arm.name,
            [Entry(one.address), Entry(value_words(one.baseline)), Entry(value_words(one.value), "follows" if one.derived else "")],
            index,
        )
        for index, arm in enumerate(ordered(result))
        for one in sorted(arm.differences, key=lambda one: one.derived)
    ]
    heads = [Head("address", kind=ADDRESS), Head("baseline", kind=CODE), Head("arm", kind=CODE)]
    note = "Every address of the filled specs that differs. “Follows”: from another difference, or turned to match the arms."
    return Table("differences", "What differs from the baseline", "arm", heads, rows, note)


def matching(result: StudyResult) -> Table:
    """What was made equal, and what could not be."""
    arms = list(enumerate(ordered(result)))
    matched, confounded = any(arm.matched for _, arm in arms), any(arm.confounders for _, arm in arms)
    heads = [Head("matched", kind=PROSE)] * matched + [Head("what else differs", kind=PROSE)] * confounded
    rows = [
        Row(arm.name, [Entry(arm.matched or "")] * matched + [Entry("; ".join(arm.confounders))] * confounded, index)
        for index, arm in arms
        if arm.matched or arm.confounders
    ]
    what = {"none": "Nothing was matched", "tokens": "Arms read the same number of tokens"}.get(
        result.match, f"Arms were matched on {result.match}"
    )
    return Table("matching", "What was matched, and what confounds", "arm", heads, rows, f"{what}.")


def tuning(result: StudyResult) -> Table:
    """What was searched for each arm, with the figures of the spec's own settings beside those of the tuned ones."""
    tuned = [(index, arm, arm.tuned) for index, arm in enumerate(ordered(result)) if arm.tuned is not None]
    heads = [
        Head("trials"),
        Head("tried", kind=CODE),
        Head("chosen", kind=CODE),
        Head("mean", "fixed"),
        Head("mean", "tuned"),
        Head("difference", "fixed"),
        Head("difference", "tuned"),
        Head("verdict", "fixed", kind=WORD),
        Head("verdict", "tuned", kind=WORD),
    ]
    rows = []
    for index, arm, search in tuned:
        fixed = arm.model_copy(update={"judgement": search.fixed}) if search.fixed else None
        cells = [
            Entry(count(len(search.trials))),
            Entry(_tried(search.trials, search.chosen)),
            Entry(_settings(search.chosen), "at the edge of what was tried" if search.at_edge else ""),
            Entry(mean_words(fixed) if fixed else ""),
            Entry(_present(mean_words(arm))),
            Entry(_present(difference_words(fixed)) if fixed else ""),
            Entry(_present(difference_words(arm))),
            Entry((search.fixed.verdict or "") if search.fixed else ""),
            Entry(arm.judgement.verdict or ""),
        ]
        rows.append(Row(arm.name, cells, index))
    note = "Each arm was searched with the same number of trials, on seeds of their own. Fixed: as the spec has it, nothing tuned."
    return narrowed(Table("tuning", "What was tuned", "arm", heads, rows, note))


def runs(result: StudyResult) -> Table:
    """The metric of every run: arms by seeds."""
    seeds = seeds_of(result)
    rows = [
        Row(arm.name, [_run(by_seed.get(seed), arm.judgement) for seed in seeds], index)
        for index, arm in enumerate(ordered(result))
        if (by_seed := {cell.seed: cell for cell in arm.cells})
    ]
    return Table(
        "runs", "Every run", "arm", [Head(f"seed {seed}") for seed in seeds], rows, "The metric at the end of training.", folds=False
    )


def ended(result: StudyResult) -> Table:
    """Runs that did not finish, and why."""
    places = {arm.name: index for index, arm in enumerate(ordered(result))}
    rows = [Row(cell.arm, [Entry(str(cell.seed)), Entry(failure_words(cell))], places.get(cell.arm, 0)) for cell in failures(result)]
    note = "A run that diverges or crashes is a result: it is kept, with its reason."
    return Table("failures", "Runs that did not finish", "arm", [Head("seed"), Head("how it ended", kind=PROSE)], rows, note)


def amendments(result: StudyResult) -> Table:
    """Changes of the study after its first run."""
    rows = [Row(one.when, [Entry(one.address), Entry(value_words(one.was)), Entry(value_words(one.now))]) for one in result.amendments]
    heads = [Head("address", kind=ADDRESS), Head("was", kind=CODE), Head("is now", kind=CODE)]
    note = "The study was frozen before its first run; this was changed later. Its hash is that of the study as it was frozen."
    return Table("amendments", "Changes after the first run", "when", heads, rows, note)


def provenance(result: StudyResult) -> list[tuple[str, str]]:
    """What the study is, and where and with what it was run."""
    seeds = seeds_of(result)
    told = [
        ("study", result.study),
        ("hash", result.hash),
        ("baseline", result.baseline),
        ("metric", result.metric),
        ("matched on", result.match),
        ("seeds", ", ".join(map(str, seeds))),
        ("tokens per run", _budget(result.arms)),
        ("first run", result.created),
        ("wall-clock", "" if result.seconds is None else duration(result.seconds)),
        ("llmkit", result.llmkit),
        *((str(key), value_words(value)) for key, value in result.machine.items()),
    ]
    return [(key, value) for key, value in told if value]


def value_words(value: Any) -> str:
    """A value of a spec on one line: text as it is, all else as JSON."""
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _run(cell: Cell | None, judgement: Judgement) -> Entry:
    if cell is None or cell.ending == "missing":
        return Entry("")
    if cell.ending != "finished" or cell.value is None:
        return Entry(cell.ending)
    return Entry(measured(cell.value, judgement.deviation))


def _budget(arms: Iterable[ArmResult]) -> str:
    budgets = sorted({arm.tokens for arm in arms if arm.tokens is not None})
    if len(budgets) > 1:
        return f"{count(budgets[0])} to {count(budgets[-1])}"
    return count(budgets[0]) if budgets else ""


def _tried(trials: Sequence[dict[str, Any]], chosen: dict[str, Any]) -> str:
    """The values that were tried, by address."""
    tried = []
    for address in chosen:
        values = {json.dumps(trial.get("settings", trial).get(address), default=str): None for trial in trials}
        tried.append(f"{address.rpartition('.')[2]}: {', '.join(values)}")
    return "; ".join(tried)


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{address.rpartition('.')[2]} = {value_words(value)}" for address, value in settings.items())


def _present(text: str) -> str:
    return "" if text == ABSENT else text
