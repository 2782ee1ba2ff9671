"""`llmkit verify-resume`: proof that a run which is killed and resumed is the run that was left alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, Set, person, print_json, result, show_rows
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.spec import Spec
    from llmkit.train.verification.certificate import Case, Certificate, Progress
    from llmkit.train.verification.comparison import Compared


def verify_resume(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec, or recipe:NAME.")],
    every: Annotated[
        int | None, typer.Option("--every", metavar="K", min=1, help="Kill after every K-th step; a fifth of the run unless given.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=2, help="Only so many steps: a shorter run.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Also on so many processes, and from one to so many.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where runs and certificate go; runs/<name>-verified.")] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train straight, and killed at every K-th step and resumed; compare all that both leave behind, bit for bit.

    Compared are every step's sequences, random states and losses, and the weights and the optimizer's state of every checkpoint.
    certificate.json has the SHA-256 of each. Where a run is killed, it goes on from its last checkpoint, which is older.
    Exits 1 where the runs differ, naming the first tensor, its step and how far they are apart.

    Example: llmkit verify-resume recipe:tiny --steps 60 --every 12 --processes 2
    Example: llmkit verify-resume recipe:tiny --steps 60 --every 12 --processes 2 --set parallel.tp=2
    """
    from llmkit.runtime import load_spec
    from llmkit.train.parallel.checks import check_model, check_ranks

    if "RANK" in os.environ:
        raise UserError("verify-resume starts its processes by itself, and this one was started by a launcher; use --processes")
    loaded = load_spec(spec, [*(overrides or ()), *([f"train.steps={steps}"] if steps is not None else ())])
    check_ranks(loaded, processes)
    check_model(loaded)
    kill_every = every or max(loaded.steps // 5, 1)
    certificate = _verify(_with_checkpoints(loaded, kill_every), out or Path("runs") / f"{loaded.name}-verified", kill_every, processes)
    if as_json:
        print_json(certificate.document())
    else:
        _tell(certificate)
    if not certificate.holds:
        sys.exit(1)


def _with_checkpoints(spec: Spec, every: int) -> Spec:
    """All checkpoints are kept, to be compared, and there are some between the kills: the spec's own, or one in two thirds of a kill.

    So the checkpoint that a run goes on from is older than the kill.
    """
    own = spec.train.checkpoint_every
    changes = {"checkpoint_every": own if own is not None and own < every else max(2 * every // 3, 1), "keep_checkpoints": None}
    return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})


def _verify(spec: Spec, out: Path, every: int, processes: int) -> Certificate:
    from llmkit.train.verification.certificate import verify

    with _shown() as progress:
        return verify(spec, out, every=every, processes=processes, say=lambda text: person.print(text, markup=False), progress=progress)


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere the lines that are said are enough."""
    if not person.is_terminal:
        yield lambda name, step, steps: None
        return
    from rich.progress import Progress

    with Progress(console=person, transient=True) as bars:
        tasks: dict[str, int] = {}

        def show(name: str, step: int, steps: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=steps)
            bars.update(tasks[name], completed=step)  # type: ignore[arg-type]

        yield show


def _tell(certificate: Certificate) -> None:
    for case in certificate.cases:
        result.print(f"{case.title}: {case.verdict}", markup=False, soft_wrap=True)
        show_rows(("compared", "count", "verdict", "largest relative difference", "SHA-256"), [_row(one) for one in case.compared])
        _tell_first_difference(case)


def _row(one: Compared) -> tuple[str, ...]:
    verdict = "identical" if one.equal else "within tolerance" if one.holds else "DIFFERENT"
    return one.what, f"{one.count:,}", verdict, "0" if one.equal else f"{one.relative:.2g}", one.straight[:12]


def _tell_first_difference(case: Case) -> None:
    for one in case.compared:
        if one.holds:
            continue
        first = one.first
        if first is None:
            result.print(f"{one.what}: they are written differently", markup=False, soft_wrap=True)
            continue
        apart = "" if first.largest is None else f", by {first.largest:.3g} at most ({first.relative:.3g} of its size)"
        result.print(f"{one.what}: first {first.name} after step {first.step}{apart}", markup=False, soft_wrap=True)
