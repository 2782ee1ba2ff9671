"""`llmkit export`: a run as a Hugging Face model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.import_ import show_proof
from llmkit.cli.output import Json, person, print_json


def export_model(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or one checkpoint of it.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the model.")],
    family: Annotated[
        str | None, typer.Option(help="The family to export to, such as llama; the plainest that can express the spec unless given.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="fp32|bf16|fp16", help="Round the weights; as the checkpoint has them unless given.")
    ] = None,
    shard_size: Annotated[str | None, typer.Option("--shard-size", metavar="SIZE", help="The largest file, such as 2GB; 5GB.")] = None,
    as_json: Json = False,
) -> None:
    """Write a run as transformers reads it, and prove that it says there what it says here.

    Example: llmkit export runs/tiny ~/models/tiny
    """
    from llmkit.train.exchange import export_run

    person.print(f"writing {directory}, then comparing with transformers", style="dim", markup=False)
    proof = export_run(run, directory, family=family, dtype=dtype, shard_size=shard_size)
    if as_json:
        print_json({"directory": str(directory)} | asdict(proof))
        return
    show_proof(proof)
    person.print(f"wrote {directory}", markup=False)
