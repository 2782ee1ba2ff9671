"""Studies whose cells train in a tenth of a second, on a text that is made here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llmkit.ablate.cells import CellPlan, Identities, seeded
from llmkit.ablate.dispatch import Standing, Unheard
from llmkit.ablate.results import Cell
from llmkit.runtime import catalog, load_spec

WORDS = "the model reads a token and says which one comes next because it has seen many before".split()  # noqa: SIM905

NORMS = {"rms": {}, "layer": {"model.block.norm": "layernorm"}}


def small_spec(place: Path, **train: Any) -> dict[str, Any]:
    """Bytes, two layers, six steps in fp32, and the text that they read."""
    text = place / "text.txt"
    if not text.exists():
        chance = random.Random(0)
        text.write_text("\n\n".join(" ".join(chance.choices(WORDS, k=40)) for _ in range(90)))
    return {
        "name": "small",
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 2,
            "max_seq_len": 16,
            "position": "rope",
            "block": {
                "attention": {"type": "mha", "n_heads": 2},
                "ffn": {"type": "swiglu", "d_ff": 32},
                "norm": "rmsnorm",
                "layout": "pre",
            },
            "tie_embeddings": True,
        },
        "data": {
            "source": {"type": "text", "paths": [str(text)], "split": "paragraph"},
            "validation": 0.1,
            "cache": str(place / "cache"),
        },
        "train": {
            "steps": 6,
            "batch_size": 4,
            "optimizer": {"type": "adamw", "lr": 3e-3},
            "precision": "fp32",
            "eval_every": 2,
            "eval_sequences": 8,
            **train,
        },
    }


def small_study(place: Path, *, train: Mapping[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    """Two norms, two seeds."""
    study = {"name": "norms", "axes": {"norm": NORMS}, "baseline": {"norm": "rms"}, "seeds": 2, **parts}
    return {"extends": small_spec(place, **(train or {})), **study}


def write_study(place: Path, **parts: Any) -> Path:
    """A study as a file."""
    path = place / "norms.yaml"
    path.write_text(yaml.safe_dump(small_study(place, **parts), sort_keys=False))
    return path


def cell(place: Path, arm: str = "rms", seed: int = 0, metric: str = "val_bits_per_byte", **train: Any) -> CellPlan:
    """A cell of the small spec under these training settings."""
    return Identities(catalog(), metric).cell(arm, seed, seeded(load_spec(small_spec(place, **train)), seed))


class Listening(Unheard):
    """`said`: every line for a person, `before` those before any cell ended; `cells`: those that ended, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.before: list[str] = []
        self.cells: list[Cell] = []

    def say(self, text: str) -> None:
        self.said.append(text)
        if not self.cells:
            self.before.append(text)

    def ended(self, cell: Cell, standing: Standing) -> None:
        self.cells.append(cell)
