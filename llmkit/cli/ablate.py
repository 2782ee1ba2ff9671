"""`llmkit ablate`: a study from its plan to its verdicts, and the ledger of all studies."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from llmkit.cli.output import Json, Set, person, print_json, result, show_rows
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.ablate.progress import StudyScreen
    from llmkit.ablate.results import ArmResult, StudyResult
    from llmkit.ablate.studies import Listed
    from llmkit.ablate.study import Study

Outcome = TypeVar("Outcome")


class Where(StrEnum):
    """Who runs the cells."""

    local = "local"
    ray = "ray"


def ablate_study(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A study, or recipe:studies/NAME; with --ledger, a directory of studies.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The study's directory; studies/<name> unless given.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Cells run at once; as many as GPUs, or else cores.")] = None,
    together: Annotated[int, typer.Option("--together", min=1, help="Seeds of an arm that a worker trains as one stacked model.")] = 1,
    on: Annotated[Where, typer.Option("--on", help="Where cells run: this machine, or the Ray cluster of RAY_ADDRESS.")] = Where.local,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Ranks that train a cell; as many as its `parallel` asks for.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Tell what would be compared, what confounds, and how long it takes.")] = False,
    until_resolved: Annotated[
        bool, typer.Option("--until-resolved", help="Look after every seed, and add seeds until every arm is settled; stays so.")
    ] = False,
    max_seeds: Annotated[
        int | None, typer.Option("--max-seeds", min=3, help="With --until-resolved: no more seeds than these; 20 unless given.")
    ] = None,
    null: Annotated[bool, typer.Option("--null", help="Calibrate: arms that are all the baseline, but for a salt of their own.")] = False,
    arms: Annotated[int | None, typer.Option("--arms", help="With --null: how many; 20 unless given.")] = None,
    salt: Annotated[
        str | None, typer.Option("--salt", metavar="init|data|both", help="With --null: what is each arm's own; init unless given.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that diverged or crashed.")] = False,
    ledger: Annotated[bool, typer.Option("--ledger", help="List all studies below a directory, whatever they found.")] = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Compare arms over paired seeds: plan, run, judge, report. The same command goes on where it stopped, and runs nothing twice.

    Example: llmkit ablate recipe:studies/attention --workers 2
    """
    _check_together(
        {"--until-resolved": until_resolved and not plan, "--null": null, "--plan": plan, "--ledger": ledger},
        {} if until_resolved else {"--max-seeds": (max_seeds, "--until-resolved")},
        {} if null else {"--arms": (arms, "--null"), "--salt": (salt, "--null")},
    )
    if ledger:
        _tell_ledger(Path(study or "studies"), as_json)
        return
    if study is None:
        raise UserError("which study? name its file, or recipe:studies/attention for one that ships; --ledger lists those that ran")
    from llmkit.ablate.study import load_study

    loaded = load_study(study, overrides or ())
    if plan:
        _tell_plan(loaded, workers, processes, as_json)
        return
    if "RANK" in os.environ:
        raise UserError("ablate starts processes by itself, and this one was started by a launcher; leave that out, and say --processes")
    command = shlex.join(["llmkit", *(argument for argument in sys.argv[1:] if argument != "--json")])
    how = {
        "workers": workers,
        "together": together,
        "on": on.value,
        "processes": processes,
        "retry_failed": retry_failed,
        "command": command,
    }
    place = out or Path("studies") / (f"{loaded.name}-null" if null else loaded.name)
    if null:
        _calibrate(loaded, place, arms, salt or "init", how, as_json)
        return
    found = _watched(lambda screen: _run(loaded, place, until_resolved, max_seeds, how, screen))
    if as_json:
        print_json(found.document())
        return
    _tell(found, place)


def _check_together(modes: dict[str, bool], *alone: dict[str, tuple[object, str]]) -> None:
    """`UserError` where two options exclude each other, or one would have been ignored without another."""
    given = [name for name, chosen in modes.items() if chosen]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} are two different things to do; give one of them")
    for name, (value, mode) in (item for options in alone for item in options.items()):
        if value is not None:
            raise UserError(f"{name} {value} changes nothing without {mode}; add that, or leave it out")


def _run(study: Study, out: Path, until_resolved: bool, max_seeds: int | None, how: dict[str, Any], screen: StudyScreen) -> StudyResult:
    from llmkit.ablate.run import run_study

    return run_study(study, out, until_resolved=until_resolved, max_seeds=max_seeds, reporter=screen, **how)


def _calibrate(study: Study, out: Path, arms: int | None, salt: str, how: dict[str, Any], as_json: bool) -> None:
    from dataclasses import asdict

    from llmkit.ablate.null import ARMS, run_null

    found, null = _watched(lambda screen: run_null(study, out, arms=ARMS if arms is None else arms, salt=salt, reporter=screen, **how))
    if as_json:
        print_json(found.document() | {"null": asdict(null) | {"holds": null.holds}})
        return
    _tell(found, out)
    result.print(null.words, markup=False, soft_wrap=True)


def _watched(run: Callable[[StudyScreen], Outcome]) -> Outcome:
    from llmkit.ablate.progress import StudyScreen
    from llmkit.train.signals import Interrupted

    try:
        with StudyScreen(person) as screen:
            return run(screen)
    except Interrupted as stopped:
        person.print(str(stopped), style="yellow", markup=False, soft_wrap=True)
        sys.exit(stopped.exit_code)


def _tell_plan(study: Study, workers: int | None, processes: int | None, as_json: bool) -> None:
    from llmkit.ablate.plan import make_plan, runs
    from llmkit.ablate.probe import estimate
    from llmkit.ablate.ranks import check_ranks_of
    from llmkit.ablate.workers import default_workers
    from llmkit.cli.ablate_plan import show_plan

    planned = make_plan(study)
    # A probe is one process: what several ranks take is not told by it.
    if check_ranks_of({arm.name: arm.spec for arm in planned.arms}, processes) == 1:
        planned = estimate(planned, workers=workers or default_workers(runs(study)))
    if as_json:
        print_json(planned.document())
        return
    show_plan(planned)


def _tell(found: StudyResult, out: Path) -> None:
    from llmkit.cli.verdict import show_verdicts

    for text in found.warnings:
        person.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)
    show_verdicts(found)
    person.print(f"report: {out / 'report.html'}", markup=False, soft_wrap=True)


def _tell_ledger(root: Path, as_json: bool) -> None:
    from llmkit.ablate.studies import ledger

    listed = ledger(root)
    if as_json:
        print_json({"studies": [one.document() for one in listed]})
        return
    if not listed:
        person.print(f"no study below {str(root)!r} yet", markup=False, soft_wrap=True)
    show_rows(
        ("study", "begun", "standing", "arm", "against", "seeds", "difference", "p adjusted", "verdict"),
        [row for one in listed for row in _ledger_rows(one)],
    )


def _ledger_rows(one: Listed) -> list[tuple[str, ...]]:
    """A row an arm; a study that found nothing yet has one as well."""
    head = (str(one.directory), one.created[:10], one.standing)
    if one.result is None:
        return [(*head, *["-"] * 6)]
    baseline = one.result.baseline
    return [(*head, arm.name, baseline, *_finding(arm)) for arm in one.judged]


def _finding(arm: ArmResult) -> tuple[str, str, str, str]:
    judged = arm.judgement
    difference = "-" if judged.difference is None else f"{judged.difference:+.3g}"
    p = "-" if judged.p_adjusted is None else f"{judged.p_adjusted:.2g}"
    return str(len(judged.seeds)), difference, p, judged.verdict or "-"
