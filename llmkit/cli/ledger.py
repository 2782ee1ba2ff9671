"""`llmkit ledger`: which documents were in a step of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit.cli.output import Json, person, print_json, show_rows


def show_step(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a run, finished or not.")],
    step: Annotated[int, typer.Option("--step", min=1, help="Which step, counted from 1 as in metrics.jsonl.")],
    as_json: Json = False,
) -> None:
    """Name the documents that were in a step: of each sequence the passages, in tokens counted from a document's first.

    Example: llmkit ledger runs/tiny --step 120
    """
    from llmkit.train.ledger import read_step

    found = read_step(run, step)
    if as_json:
        print_json(found.row())
        return
    update = "; its update was skipped" if found.skipped else ""
    person.print(f"step {found.step}: loss {_number(found.loss)}, gradient norm {_number(found.grad_norm)}{update}", markup=False)
    show_rows(
        ("sequence", "document", "from", "to"),
        [(str(one.item), part.document, str(part.start), str(part.end)) for one in found.sequences for part in one.passages],
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
