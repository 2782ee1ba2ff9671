"""`llmkit eval`: what a trained run is worth, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from llmkit.cli.output import Json, person, print_json, result
from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    import torch

    from llmkit.core.catalog import Catalog
    from llmkit.core.component import Chosen
    from llmkit.core.interfaces.evaluator import Evaluation
    from llmkit.core.spec import Spec
    from llmkit.train.run import Run

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
    from llmkit.model.device import fastest_device
    from llmkit.model.language_model import ModelLM
    from llmkit.runtime import catalog
    from llmkit.train.run import load_run

    texts = [read_document(path) for path in data or ()]
    loaded = load_run(run)
    chosen = chosen_evaluators(loaded.spec, evals, catalog())
    if int8:
        round_to_int8(loaded.model)
    device = fastest_device()
    computing = _as_trained(loaded, device)
    lm = ModelLM(
        loaded.model.to(device),
        loaded.tokenizer,
        seq_len=loaded.spec.seq_len,
        batch_size=batch_size,
        mask_documents=loaded.spec.data.mask_documents,
    )
    rows = []
    for evaluator in chosen:
        person.print(f"evaluating {evaluator.type} on {_where(loaded.spec, data)}", style="dim", markup=False)
        with computing:
            evaluation: Evaluation = evaluator.make()(lm, texts or validation_documents(loaded.spec))
        rows += [{"evaluator": evaluator.type, **score._asdict()} for score in evaluation.scores]
    if as_json:
        print_json({"run": run, "step": loaded.step, "results": rows})
    else:
        _show(rows)


def chosen_evaluators(spec: Spec, names: str | None, catalog: Catalog) -> list[Chosen]:
    """Those of the spec, or those named: with the spec's parameters where it has them, else with their defaults."""
    if names is None:
        if spec.eval:
            return spec.eval
        raise UserError(f"the run's spec has no `eval`; name evaluators with --evals, of {', '.join(catalog.names(Kind.evaluator))}")
    known = {evaluator.type: evaluator for evaluator in spec.eval}
    wanted = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise UserError(f"--evals {names!r} names no evaluator; installed: {', '.join(catalog.names(Kind.evaluator))}")
    return [known.get(name) or _with_defaults(name, catalog) for name in wanted]


def _with_defaults(name: str, catalog: Catalog) -> Chosen:
    from pydantic import ValidationError

    from llmkit.core.component import Chosen

    component = catalog.find(Kind.evaluator, name)
    try:
        return Chosen(component, component.params.model_validate({}, context={"catalog": catalog}))
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise UserError(f"evaluator {name!r} needs parameters that only a spec can give: {missing}; put it under `eval` there") from error


def read_document(path: Path) -> Document:
    """A text file as one document."""
    try:
        return Document(str(path), path.read_text(encoding="utf-8"), source="file")
    except UnicodeDecodeError as error:
        raise UserError(f"--data {str(path)!r} is no UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        raise UserError(f"cannot read --data {str(path)!r}: {error.strerror}") from error


def validation_documents(spec: Spec) -> Iterator[Document]:
    """The run's held-out text; it is prepared when the first document is asked for, so not at all by evaluators with data of their own."""
    from llmkit.data.prepare import prepare

    yield from prepare(spec).validation_documents()


def _as_trained(loaded: Run, device: torch.device) -> AbstractContextManager[object]:
    """What computes as training did, so that both report the same number, with the weights made ready for it; fp16 is fp32 where the
    device has none."""
    from llmkit.train import precision

    asked = loaded.spec.train.precision
    became = precision.resolve("fp32" if asked == "fp16" and device.type != "cuda" else asked, device)
    precision.lowered(loaded.model, became)
    return precision.autocast(became, device)


def _where(spec: Spec, data: Sequence[Path] | None) -> str:
    return ", ".join(map(str, data)) if data else f"the validation text of data.source {spec.data.source.type}"


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
