"""A spec that trains in a second, on a text that is made here."""

from pathlib import Path
from typing import Any

import pytest

WORDS = "the model reads a token and says which one comes next because it has seen many before".split()  # noqa: SIM905


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    """A spec as a mapping: bytes, two layers, ten steps in fp32; a checkpoint after every third step."""
    lines = [" ".join(WORDS[(start + step * stride) % len(WORDS)] for step in range(12)) for start in range(19) for stride in (1, 2, 3, 5)]
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(lines))
    return {
        "name": "tiny",
        "tokenizer": "bytes",
        "model": {
            "d_model": 32,
            "n_layers": 2,
            "max_seq_len": 32,
            "position": "rope",
            "block": {"attention": {"type": "mha", "n_heads": 4}, "ffn": "swiglu", "norm": "rmsnorm", "layout": "pre"},
            "tie_embeddings": True,
        },
        "data": {
            "source": {"type": "text", "paths": [str(text)], "split": "paragraph"},
            "validation": 0.2,
            "cache": str(tmp_path / "cache"),
        },
        "train": {
            "steps": 10,
            "batch_size": 4,
            "optimizer": {"type": "adamw", "lr": 3e-3},
            "precision": "fp32",
            "checkpoint_every": 3,
            "keep_checkpoints": None,
        },
    }
