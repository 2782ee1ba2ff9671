"""`llmkit import`: a run out of a Hugging Face model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, person, print_json, result

if TYPE_CHECKING:
    from llmkit.interop.proof import Proof


def import_model(
    source: Annotated[Path, typer.Argument(metavar="HF_DIR", help="A directory with config.json and safetensors, or a .gguf file.")],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run's new directory.")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FILE", help="The tokenizer, where it does not lie beside the weights.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run of a Hugging Face model, and prove that it says what transformers says.

    Example: llmkit import ~/models/SmolLM2-135M --out runs/smollm2
    """
    from llmkit.train.exchange import import_run

    person.print(f"reading {source}, then comparing with transformers", style="dim", markup=False)
    proof = import_run(source, out, tokenizer=tokenizer)
    if as_json:
        print_json({"run": str(out)} | asdict(proof))
        return
    show_proof(proof)
    if not (out / "tokenizer").is_dir():
        person.print("it has no tokenizer: import it with --tokenizer FILE to give it text", style="yellow")
    person.print(f"wrote {out}", markup=False)


def show_proof(proof: Proof) -> None:
    """What was compared, for a person."""
    result.print(f"architecture: {proof.architecture}", markup=False)
    result.print(f"largest difference of logits: {proof.max_abs_logit_difference:.2g} over {proof.tokens} tokens")
    if proof.told:
        result.print(f"transformers reads from such files no {', '.join(proof.told)}, and was told", markup=False)
    result.print(f"greedy tokens: {'equal' if proof.greedy_tokens_equal else 'different'}, {proof.greedy_tokens} of them")
