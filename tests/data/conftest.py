"""Specs whose text lies in a temporary directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit import load_spec
from llmkit.core.spec import Spec

MakeSpec = Callable[..., Spec]


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    """A spec on a text file of one document a line, with the byte tokenizer unless told otherwise."""

    def make(text: str = "".join(f"line {number} of the text\n" for number in range(200)), **parts: Any) -> Spec:
        file = tmp_path / "corpus.txt"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
        data = {"source": {"type": "text", "paths": [str(file)], "split": "line"}, "cache": str(tmp_path / "cache"), "validation": 0.1}
        return load_spec(
            {
                "name": "data",
                "tokenizer": parts.pop("tokenizer", "bytes"),
                "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 64, **parts.pop("model", {})},
                "data": data | parts.pop("data", {}),
                "train": {"steps": 1},
                **parts,
            }
        )

    return make
