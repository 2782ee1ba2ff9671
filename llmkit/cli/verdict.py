"""`llmkit verdict`: the ablation lab's statistics on anyone's numbers. Imports scipy only when it judges."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, person, print_json, result, show_rows

if TYPE_CHECKING:
    from llmkit.ablate.results import ArmResult, StudyResult

HEADS = ("arm", "seeds", "mean", "difference", "interval", "p", "adjusted", "verdict")


def judge_numbers(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="Columns arm, seed, value; others are left alone.")],
    baseline: Annotated[str, typer.Option("--baseline", metavar="ARM", help="The arm that all others are compared with.")],
    higher_is_better: Annotated[bool, typer.Option("--higher-is-better", help="The value is an accuracy, say, and no loss.")] = False,
    equivalence: Annotated[
        float | None, typer.Option("--equivalence", metavar="X", help="The largest difference that you call none; for `equivalent`.")
    ] = None,
    alpha: Annotated[float, typer.Option("--alpha", metavar="A", help="How often a table without differences may show one.")] = 0.05,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="You looked after every seed, and stopped when you had seen enough.")
    ] = False,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Runs with the same seed share nothing: Welch's t-test.")] = False,
    as_json: Json = False,
) -> None:
    """Is an arm better than the baseline, or is it noise? Lower is better unless you say otherwise.

    A value of nan, inf or nothing is a run that diverged. Runs with the same seed are compared with each other,
    by a paired t-test with Holm's correction over the arms.

    Example: llmkit verdict losses.csv --baseline mha --equivalence 0.002
    """
    from llmkit.ablate.table import judge_table, read_table

    found = judge_table(
        read_table(table),
        baseline,
        alpha=alpha,
        equivalence=equivalence,
        higher_is_better=higher_is_better,
        sequential=sequential,
        paired=not unpaired,
        command=shlex.join(["llmkit", *sys.argv[1:]]),
    )
    if as_json:
        print_json(found.document())
        return
    for text in found.warnings:
        person.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)
    show_verdicts(found)


def show_verdicts(found: StudyResult) -> None:
    """A table with the reasons under it; where stdout is no terminal, a line an arm that ends with its reason."""
    if not result.is_terminal:
        show_rows((), [(*_cells(arm), arm.judgement.reason or "") for arm in found.arms])
        return
    show_rows(HEADS, [_cells(arm) for arm in found.arms])
    for arm in found.arms:
        if arm.judgement.reason:
            result.print(f"{arm.name}: {arm.judgement.verdict or 'baseline'}: {arm.judgement.reason}", markup=False, soft_wrap=True)


def _cells(arm: ArmResult) -> tuple[str, ...]:
    one = arm.judgement
    interval = "-" if one.interval is None else f"{one.interval[0]:.3g} to {one.interval[1]:.3g}"
    figures = (_figure(one.mean, ".6g"), _figure(one.difference, "+.3g"), interval, _figure(one.p, ".2g"), _figure(one.p_adjusted, ".2g"))
    return (arm.name, str(len(one.seeds)), *figures, one.verdict or "-")


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
