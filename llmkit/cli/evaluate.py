"""`llmkit eval`: what a trained run is worth, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from llmkit.cli.output import Json, person, print_json, result
from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from llmkit.core.catalog import Catalog
    from llmkit.core.spec import Spec

Evals = Annotated[str | None, typer.Option("--evals", metavar="A,B", help="Evaluators by name; those of the run's spec unless given.")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="FILE", help="A UTF-8 text to evaluate on instead of the run's validation text. Repeatable."),
]


def evaluate_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or one checkpoint of it.")],
    evals: Evals = None,
    data: Data = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows computed at once; it changes no result beyond rounding.")] = 16,
    int8: Annotated[
        bool, typer.Option("--int8", help="Round weights and activations as `generate --precision int8` does: what does it lose?")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run evaluators on a trained run.

    Example: llmkit eval runs/tiny --evals perplexity --data notes.txt
    """
    from llmkit.model.decoding import round_to_int8
    from llmkit.runtime import catalog
    from llmkit.train.evaluation import Evaluating, chosen_evaluators
    from llmkit.train.run import load_run

    texts = [read_document(path) for path in data or ()]
    loaded = load_run(run)
    names = evaluator_names(loaded.spec, evals, catalog())
    chosen = loaded.spec.eval if names is None else chosen_evaluators(loaded.spec, names, catalog())
    if int8:
        round_to_int8(loaded.model)
    evaluating = Evaluating(loaded, batch_size)
    rows = []
    for evaluator in chosen:
        person.print(f"evaluating {evaluator.type} on {_where(loaded.spec, data)}", style="dim", markup=False)
        rows += [{"evaluator": evaluator.type, **score._asdict()} for score in evaluating.evaluate(evaluator, texts).scores]
    if as_json:
        print_json({"run": run, "step": loaded.step, "results": rows})
    else:
        _show(rows)


def evaluator_names(spec: Spec, names: str | None, catalog: Catalog) -> list[str] | None:
    """The evaluators that `--evals` names, each once; None for those of the spec."""
    if names is None:
        if spec.eval:
            return None
        raise UserError(f"the run's spec has no `eval`; name evaluators with --evals, of {', '.join(catalog.names(Kind.evaluator))}")
    wanted = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise UserError(f"--evals {names!r} names no evaluator; installed: {', '.join(catalog.names(Kind.evaluator))}")
    return list(wanted)


def read_document(path: Path) -> Document:
    """A text file as one document."""
    try:
        return Document(str(path), path.read_text(encoding="utf-8"), source="file")
    except UnicodeDecodeError as error:
        raise UserError(f"--data {str(path)!r} is no UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        raise UserError(f"cannot read --data {str(path)!r}: {error.strerror}") from error


def _where(spec: Spec, data: Sequence[Path] | None) -> str:
    if data:
        return ", ".join(map(str, data))
    if spec.data.holdout is not None:
        return f"the text of data.holdout {spec.data.holdout.type}"
    return f"the validation text of {', '.join(spec.data.named_sources)}"


def _show(rows: Sequence[dict[str, Any]]) -> None:
    if not result.is_terminal:
        for row in rows:
            result.print(f"{row['evaluator']} {row['metric']} {_value(row)} n={row['n']}", markup=False, soft_wrap=True)
        return
    table = Table("evaluator", "metric", "value ± standard error", "n")
    for row in rows:
        table.add_row(row["evaluator"], row["metric"], _value(row), str(row["n"]))
    result.print(table)


def _value(row: dict[str, Any]) -> str:
    value, error = row["value"], row["stderr"]
    if not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
