"""`llmkit train`: the whole way from source to a trained run."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli.output import Json, Set, person, print_json, result
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.spec import Spec

SMALL_TEXT = 64 << 20
"""Bytes of text up to which the compressor's yardsticks are computed: beyond that they take minutes."""


def train_spec(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="A spec, or recipe:NAME; ./spec.yaml, else recipe:tiny.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's directory; runs/<name> unless given.")] = None,
    resume: Annotated[str, typer.Option("--resume", metavar="auto|never|PATH", help="auto goes on where the run stands.")] = "auto",
    processes: Annotated[int, typer.Option("--processes", min=1, help="Processes on this machine; they share each step.")] = 1,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train a model: text, tokenizer, tokens, steps, checkpoints, evaluation. The same command again goes on where it stopped.

    Example: llmkit train recipe:tiny --set train.seed=1 --out runs/tiny-1
    """
    from llmkit.runtime import load_spec

    source = spec or ("spec.yaml" if Path("spec.yaml").exists() else "recipe:tiny")
    loaded = load_spec(source, overrides or ())
    place = out or Path("runs") / loaded.name
    if processes > 1:
        sys.exit(_launch(loaded, place, resume, processes))
    outcome = _train(loaded, place, resume)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json(outcome)
        return
    _tell(loaded, outcome)


def _train(spec: Spec, out: Path, resume: str) -> dict[str, Any]:
    from llmkit.train.loop import train
    from llmkit.train.progress import Screen
    from llmkit.train.recovery import Diverged
    from llmkit.train.signals import Interrupted

    try:
        with Screen(person) as screen:
            return train(spec, out=out, resume=resume, reporter=screen)
    except Interrupted as stopped:
        words, style, code = str(stopped), "yellow", stopped.exit_code
    except Diverged as error:
        words, style, code = f"failed: {error}", "red", 1
    # Not in the handlers: their exception holds the process group, whose threads abort a process that ends before them.
    if os.environ.get("RANK", "0") == "0":
        person.print(words, style=style, markup=False, soft_wrap=True)
    sys.exit(code)


def _launch(spec: Spec, out: Path, resume: str, processes: int) -> int:
    """Everything that a person can get wrong is checked here, once, before so many interpreters start."""
    from llmkit.data.prepare import prepare
    from llmkit.train.launch import launch
    from llmkit.train.lock import alone
    from llmkit.train.loop import check
    from llmkit.train.parallel.checks import check_model, check_ranks
    from llmkit.train.progress import Screen
    from llmkit.train.run import RunDirectory

    if "RANK" in os.environ:
        raise UserError("--processes starts processes by itself, and this one was started by a launcher; leave one of the two out")
    check_ranks(spec, processes)
    check_model(spec)
    with alone(out, lambda text: None):
        if check(spec, RunDirectory(out), resume, lambda text: None).finished is None:
            with Screen(person) as screen, warnings.catch_warnings(action="ignore"):
                prepare(spec, progress=screen.preparing)
    return launch(_without_processes(sys.argv[1:]), processes)


def _without_processes(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--processes" and not argument.startswith("--processes="):
            kept.append(argument)
        skip = argument == "--processes"
    return kept


def _tell(spec: Spec, outcome: dict[str, Any]) -> None:
    run = outcome["run"]
    result.print(
        f"{run}: {outcome['step']:,} steps, {outcome['tokens']:,} tokens, validation loss {outcome['val_loss']:.4f}, "
        f"{outcome['val_bits_per_byte']:.4f} bits per byte",
        soft_wrap=True,
    )
    _tell_yardsticks(spec, outcome["val_bits_per_byte"])
    result.print(f'next: llmkit generate {run} --prompt "The"    llmkit eval {run}    llmkit spec show {run}/spec.yaml', soft_wrap=True)


def _tell_yardsticks(spec: Spec, bits_per_byte: float) -> None:
    """What a compressor needs for the same text: a model below both has learnt more than repetition."""
    from llmkit.data.prepare import prepare
    from llmkit.data.yardstick import yardsticks_of

    prepared = prepare(spec)
    if prepared.train.n_bytes + prepared.validation.n_bytes > SMALL_TEXT:
        return
    yardsticks = yardsticks_of(spec)
    below = [name for name, bits in (("the first", yardsticks.alone), ("the second", yardsticks.after_training)) if bits_per_byte < bits]
    verdict = {0: "the model is above both", 1: "the model is below the first only", 2: "the model is below both"}[len(below)]
    result.print(
        f"xz -9e needs {yardsticks.alone:.4f} bits per byte for the validation text alone, "
        f"{yardsticks.after_training:.4f} after the training text: {verdict}",
        soft_wrap=True,
    )
