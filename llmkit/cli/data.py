"""`llmkit data`: from raw text and pages to shards of tokens, and what became of every document on the way."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli.data_report import report_data, show_funnel
from llmkit.cli.output import Json, Set, person, print_json, result

if TYPE_CHECKING:
    from llmkit.core.spec import Spec
    from llmkit.data.documents import Engine
    from llmkit.data.prepare import Prepared

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=__doc__)
app.command("report")(report_data)


class Where(StrEnum):
    """Where stages run."""

    local = "local"
    ray = "ray"


@app.command("prepare")
def prepare_data(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec, or recipe:NAME.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where shards and funnel go; data/<name> unless given.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; as many as cores unless given.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that is no document.")] = False,
    on: Annotated[Where, typer.Option("--on", help="Where stages run: this machine, or the Ray cluster of RAY_ADDRESS.")] = Where.local,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Read, clean, deduplicate and tokenise a spec's text. The same command again goes on where it stopped; `train` reuses what it made.

    Example: llmkit data prepare books.yaml --out data/books --workers 4
    """
    from llmkit.runtime import load_spec

    loaded = load_spec(spec, overrides or ())
    place = out or Path("data") / loaded.name
    document, prepared = _prepared(loaded, place, workers, strict, on)
    page = _report(prepared, place)
    if as_json:
        print_json(document | {"directory": str(place), "report": str(page)})
        return
    show_funnel(prepared.funnel)
    result.print(f"{place}: {document['shards']} shards, {document['tokens']:,} tokens; report: {page}", markup=False, soft_wrap=True)
    result.print(f"next: llmkit train {spec}", markup=False, soft_wrap=True)


def _prepared(spec: Spec, place: Path, workers: int | None, strict: bool, on: Where) -> tuple[dict[str, Any], Prepared]:
    from llmkit.data.delivery import deliver
    from llmkit.data.prepare import prepare
    from llmkit.train.progress import Preparing
    from llmkit.train.signals import Interrupted, StopWish

    try:
        with (
            StopWish(),
            Preparing(person) as screen,
            _engine(on, workers) as engine,
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always", UserWarning)
            prepared = prepare(spec, progress=screen.preparing, workers=workers, strict=strict, engine=engine)
            document = deliver(prepared, place)
    except Interrupted as stopped:
        code = stopped.exit_code
    else:
        for warning in caught:
            person.print(f"warning: {warning.message}", style="yellow", markup=False, soft_wrap=True)
        return document, prepared
    person.print("stopped; what is finished is kept, and the same command goes on from there", style="yellow", soft_wrap=True)
    sys.exit(code)


def _engine(on: Where, workers: int | None) -> AbstractContextManager[Engine | None]:
    if on is Where.local:
        return nullcontext()
    from llmkit.data.ray_workers import RayWorkers

    return RayWorkers(workers)


def _report(prepared: Prepared, place: Path) -> Path:
    from llmkit.data.report import write_report

    return write_report(prepared.funnel, place)[0]
