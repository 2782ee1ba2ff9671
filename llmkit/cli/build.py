"""`llmkit build`: what a spec costs, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from llmkit.cli.build_parallel import show_ranks, spread
from llmkit.cli.output import Json, Set, person, print_json, quantity, result, show_rows
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.spec import Spec
    from llmkit.model.count import Account

Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Also write an untrained run, with initial values, to a new directory.")
]

Parallel = Annotated[
    str | None,
    typer.Option("--parallel", metavar="DEGREES", help="Tell what each rank would hold and send (dp_shard=64,tp=8); starts none."),
]

CoordCheck = Annotated[
    bool,
    typer.Option("--coord-check", help="Also train at 1, 2, 4 and 8 times the width for a few steps, and tell which activations grow."),
]

Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="With --coord-check: draw it (.png, .svg, .pdf).")]

WIDTHS = (1, 2, 4, 8)

BYTES_A_NUMBER = {"fp32": 4, "bf16": 2}


def build_model(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec file, or recipe:NAME for one that ships.")],
    out: Out = None,
    coord_check: CoordCheck = False,
    plot: Plot = None,
    parallel: Parallel = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Validate a spec, build it without values, and account for it: parameters, FLOPs, cache bytes.

    Example: llmkit build recipe:llama3-8b --set model.n_layers=16
    Example: llmkit build recipe:llama3-8b --parallel dp_shard=64,tp=8 --set train.batch_size=512
    Example: llmkit build recipe:tiny --set 'model.init={type: mup, base_width: 128}' --coord-check --plot mup.png
    """
    from llmkit.model.count import account
    from llmkit.runtime import catalog, load_spec

    if plot is not None and not coord_check:
        raise UserError(f"--plot {str(plot)!r} draws a coordinate check; add --coord-check")
    installed = catalog()
    degrees = [] if parallel is None else [f"parallel.{degree.strip()}" for degree in parallel.split(",")]
    loaded = load_spec(spec, [*degrees, *(overrides or ())], installed)
    if out is not None:
        refuse_occupied(out)
    ranks = [] if parallel is None else spread(loaded)
    counted = account(loaded, installed)
    if out is not None:
        write_run(loaded, out)
    if not as_json:
        show(counted, loaded)
        show_ranks(ranks, loaded)
    checked = coordinate_check(loaded, plot) if coord_check else {}
    if as_json:
        print_json(asdict(counted) | checked | ({"ranks": [asdict(one) for one in ranks]} if ranks else {}))
    elif checked:
        show_slopes(checked["slopes"])


def refuse_occupied(out: Path) -> None:
    """A run is written to a new or an empty directory."""
    from llmkit.train.run import RunDirectory

    if RunDirectory(out).occupied():
        raise UserError(f"--out {str(out)!r} is not empty; name a new directory, or empty that one first")


def write_run(spec: Spec, out: Path) -> None:
    """Draw the initial values and write them."""
    from llmkit.train.run import write_initialised

    person.print(f"writing the initial values of {spec.name}", style="dim", markup=False)
    write_initialised(spec, out)
    person.print(f"wrote {out}", markup=False)


def coordinate_check(spec: Spec, plot: Path | None) -> dict[str, Any]:
    """Sizes of activations against the width: `coordinates` and `slopes`, and the plot where one is asked for."""
    from llmkit.train.coordinates import coordinates, slopes

    draw = None if plot is None else plotting(plot)
    found = coordinates(spec, WIDTHS, progress=lambda width, seed: person.print(f"width {width}, seed {seed}", style="dim"))
    if draw is not None:
        draw(found, title=f"{spec.name}: activations against the width")
        person.print(f"wrote {plot}", markup=False)
    return {"coordinates": [one._asdict() for one in found], "slopes": slopes(found)}


def plotting(file: Path) -> Callable[..., None]:
    """The function that draws, once it is known that it can: before minutes of training."""
    try:
        from llmkit.cli.plots import draw_coordinates
    except ImportError as error:
        raise UserError(f"--plot needs {error.name}; pip install 'llmkit[plot]'") from None
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {str(file)!r} is no .png, .svg or .pdf; name one of these")
    if not file.parent.is_dir():
        raise UserError(f"--plot {str(file)!r}: there is no directory {str(file.parent)!r}; make it, or name another")
    return partial(draw_coordinates, file)


def show_slopes(slopes: dict[str, float | None]) -> None:
    """How each activation grows with the width: 0 is what a learning rate that carries over needs."""
    rows = [(module, "not finite" if slope is None else f"{slope:+.2f}") for module, slope in slopes.items()]
    show_rows(("activation of", "grows as width to the power of"), rows)


def show(counted: Account, spec: Spec) -> None:
    """Tables on a terminal, plain lines elsewhere."""
    totals = _totals(counted, spec)
    rest = counted.parameters.total - sum(row.parameters for row in counted.components if row.address.startswith("model."))
    if not result.is_terminal:
        for row in counted.components:
            result.print(f"{row.address} {row.type} {row.distribution} {row.parameters}", markup=False, soft_wrap=True)
        result.print(f"embedding and head {rest}")
        for name, value in totals:
            result.print(f"{name}: {value}", markup=False, soft_wrap=True)
        return
    table = Table("address", "type", "from", title=counted.name)
    table.add_column("parameters", justify="right")
    for row in counted.components:
        table.add_row(row.address, row.type, f"{row.distribution} {row.version}", f"{row.parameters:,}" if row.parameters else "")
    table.add_row("embedding and head", "", "", f"{rest:,}")
    result.print(table)
    summary = Table.grid(padding=(0, 2))
    for name, value in totals:
        summary.add_row(name, value)
    result.print(summary)


def _totals(counted: Account, spec: Spec) -> list[tuple[str, str]]:
    parameters, flops = counted.parameters, counted.flops_per_token
    length = spec.model.max_seq_len
    memory = ", ".join(f"{quantity(parameters.total * size)}B in {name}" for name, size in BYTES_A_NUMBER.items())
    return [
        ("parameters", f"{parameters.total:,} ({parameters.embedding:,} of them embedding)"),
        ("memory of the parameters", memory),
        (f"FLOPs a token at {length:,} tokens", f"{quantity(flops.forward)} forward, {quantity(flops.training)} training"),
        ("KV cache a token", f"{counted.kv_cache_bytes_per_token:,} bytes, {quantity(counted.kv_cache_bytes)}B when full"),
    ]
