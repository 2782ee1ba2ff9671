"""`llmkit export`: a run as a Hugging Face model, or as a GGUF file."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.import_ import show_proof
from llmkit.cli.output import Json, person, print_json
from llmkit.core.errors import UserError


class Format(StrEnum):
    """What files a model is written as."""

    hf = "hf"
    gguf = "gguf"


def export_model(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or one checkpoint of it.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the model.")],
    form: Annotated[Format, typer.Option("--format", help="hf: as transformers reads it; gguf: as llama.cpp does.")] = Format.hf,
    family: Annotated[
        str | None, typer.Option(help="The family to export to, such as llama; the plainest that can express the spec unless given.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="fp32|bf16|fp16|q8_0", help="Round the weights (q8_0: GGUF alone); as the checkpoint has them unless given."
        ),
    ] = None,
    shard_size: Annotated[str | None, typer.Option("--shard-size", metavar="SIZE", help="The largest file, such as 2GB; 5GB.")] = None,
    tokenizer: Annotated[bool, typer.Option("--tokenizer/--no-tokenizer", help="Put the tokenizer into the GGUF file.")] = True,
    as_json: Json = False,
) -> None:
    """Write a run as transformers or llama.cpp reads it, and prove that it says there what it says here.

    Example: llmkit export runs/tiny ~/models/tiny --format gguf --dtype q8_0
    """
    from llmkit.train.exchange import export_gguf, export_run

    if form is Format.gguf and shard_size is not None:
        raise UserError(f"--shard-size {shard_size!r} goes with --format hf; a GGUF file is one file")
    if form is Format.hf and not tokenizer:
        raise UserError("--no-tokenizer goes with --format gguf; in the other form the tokenizer is files of its own")
    person.print(f"writing {directory}, then comparing with transformers", style="dim", markup=False)
    if form is Format.gguf:
        proof = export_gguf(run, directory, family=family, dtype=dtype, tokenizer=tokenizer)
    else:
        proof = export_run(run, directory, family=family, dtype=dtype, shard_size=shard_size)
    if as_json:
        print_json({"directory": str(directory)} | asdict(proof))
        return
    show_proof(proof)
    person.print(f"wrote {directory}", markup=False)
