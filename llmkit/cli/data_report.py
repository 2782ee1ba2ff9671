"""`llmkit data report`: the funnel of prepared data, as a page and as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli.output import Json, person, print_json, quantity, show_rows

if TYPE_CHECKING:
    from llmkit.data.funnel import Amount, Funnel, Stage

HEADS = ("stage", "type", "in", "out", "removed", "of seen", "rewritten", "bytes out", "tokens out", "only here")
PREPARED = "prepared.json"


def report_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `llmkit data prepare` wrote.")],
    as_json: Json = False,
) -> None:
    """What each stage of preparing data did: writes report.html and report.md there, and prints the funnel.

    Example: llmkit data report data/books
    """
    from llmkit.data.funnel import read_funnel
    from llmkit.data.report import write_report

    funnel = read_funnel(directory)
    page = write_report(funnel, directory)[0]
    if as_json:
        print_json(_prepared(directory) | funnel.document() | {"report": str(page)})
        return
    show_funnel(funnel)
    person.print(f"report: {page}", markup=False, soft_wrap=True)


def show_funnel(funnel: Funnel) -> None:
    """The funnel as a table, and what else its reader must know."""
    from llmkit.data.report.words import notices

    show_rows(HEADS, [_row(stage) for stage in funnel.stages])
    for notice in notices(funnel):
        person.print(f"look: {''.join(notice)}", style="yellow", markup=False, soft_wrap=True)


def _row(stage: Stage) -> tuple[str, ...]:
    before, after = stage.before, stage.after
    part = f"{stage.removed / stage.seen:.1%}" if stage.seen else "-"
    only = "-" if stage.only is None else str(stage.only)
    counted = (str(before.documents), str(after.documents), str(stage.removed), part, str(stage.rewritten))
    return (stage.stage, stage.type or "-", *counted, f"{quantity(after.bytes)}B", _tokens(after), only)


def _tokens(amount: Amount) -> str:
    if amount.tokens is None:
        return "-"
    return ("~" if amount.estimated else "") + quantity(amount.tokens).strip()


def _prepared(directory: Path) -> dict[str, Any]:
    """What `data prepare` printed; a funnel can be told without."""
    try:
        prepared = json.loads((directory / PREPARED).read_bytes())
    except (OSError, ValueError):
        return {"shards": None}
    return prepared if isinstance(prepared, dict) else {"shards": None}
