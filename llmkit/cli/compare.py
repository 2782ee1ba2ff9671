"""`llmkit compare`: runs side by side. Imports nothing heavy, but matplotlib where a picture is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, person, print_json, result, show_rows, written
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.train.compare import Comparison, Point, Told

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 32
PICTURES = (".png", ".svg", ".pdf")


def compare_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Directories of runs, finished or not.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw the curves: .html (self-contained), .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs: how their specs differ, what they cost, and how their losses fell.

    Example: llmkit compare runs/tiny runs/tiny-gqa --plot curves.html
    """
    from llmkit.train.compare import compare

    if plot is not None:
        _check_plot(plot)
    compared = compare(runs)
    if plot is not None:
        _draw(plot, compared)
    if as_json:
        print_json(compared.document())
        return
    for text in compared.warnings:
        person.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)
    _show(compared)
    if plot is not None:
        person.print(f"wrote {plot}", markup=False, soft_wrap=True)


def _check_plot(file: Path) -> None:
    if file.suffix not in (".html", *PICTURES):
        raise UserError(f"--plot {str(file)!r} is no .html, .png, .svg or .pdf; name one of these")
    if not file.parent.is_dir():
        raise UserError(f"--plot {str(file)!r}: there is no directory {str(file.parent)!r}; make it, or name another")


def _draw(file: Path, compared: Comparison) -> None:
    from llmkit.cli.curves import draw, page

    try:
        if file.suffix == ".html":
            file.write_text(page(compared), encoding="utf-8")
        else:
            draw(file, compared)
    except ImportError as error:
        raise UserError(f"--plot {str(file)!r} needs {error.name}; pip install 'llmkit[plot]', or name an .html file") from None
    except OSError as error:
        raise UserError(f"cannot write --plot {str(file)!r}: {error.strerror}") from error


def _show(compared: Comparison) -> None:
    names = [run.run for run in compared.runs]
    show_rows(("spec", *names), [(one.address, *map(written, one.values)) for one in compared.differences])
    if not compared.differences:
        person.print("the specs are the same")
    cells = [figures(run) for run in compared.runs]
    show_rows(("run", *names), [(what, *(cell[what] for cell in cells)) for what in cells[0]])
    _show_curves(compared)


def figures(run: Told) -> dict[str, str]:
    """What a run cost and reached, as a person reads it."""
    cost, flops = run.parameters, run.flops_per_token
    return {
        "steps": f"{run.step:,}" if run.finished else f"{run.step:,} of {run.steps:,}",
        "tokens": f"{run.tokens:,}",
        "parameters": f"{cost['total']:,}" if cost else "-",
        "training FLOPs a token": f"{flops['training']:.4g}" if flops else "-",
        "training FLOPs": f"{run.training_flops:.4g}" if run.training_flops is not None else "-",
        "seconds in steps": f"{run.seconds:,.1f}" if run.seconds is not None else "-",
        "tokens a second": f"{run.tokens_per_second:,.0f}" if run.tokens_per_second is not None else "-",
        "training loss": _number(run.final["train_loss"]),
        "validation loss": _number(run.final["val_loss"]),
        "best validation loss": _at(run.best["val_loss"]),
        "bits per byte": _number(run.final["val_bits_per_byte"]),
        "best bits per byte": _at(run.best["val_bits_per_byte"]),
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _at(point: Point | None) -> str:
    return "-" if point is None else f"{point.value:.4f} at {point.tokens:,}"


def _show_curves(compared: Comparison) -> None:
    """Training losses as bars: one scale of tokens for all, and one of losses where the tokens are the same."""
    curves = [run.curves["train_loss"] for run in compared.runs]
    if not any(curves):
        return
    furthest = max(point.tokens for curve in curves for point in curve)
    every = [point.value for curve in curves for point in curve]
    rows = []
    for run, curve in zip(compared.runs, curves, strict=True):
        values = every if compared.metric == "val_loss" else [point.value for point in curve]
        rows.append((run.run, bars(curve, furthest, min(values, default=0.0), max(values, default=0.0))))
    show_rows((f"training loss, 0 to {furthest:,} tokens", ""), rows)
    if result.is_terminal and compared.metric != "val_loss":
        person.print("each curve on its own scale of losses", style="dim")


def bars(curve: list[Point], furthest: int, low: float, high: float, width: int = CURVE_WIDTH) -> str:
    """A curve in one line: a bar for each part of the way, as high as the mean loss there; a blank where there is none."""
    parts: list[list[float]] = [[] for _ in range(width)]
    for point in curve:
        parts[min(width - 1, (point.tokens - 1) * width // max(1, furthest))].append(point.value)
    top = len(BARS) - 1
    return "".join(
        BARS[round(top * (sum(part) / len(part) - low) / (high - low)) if high > low else 0] if part else " " for part in parts
    ).rstrip()
