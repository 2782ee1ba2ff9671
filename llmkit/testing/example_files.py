"""Example parameters of llmkit's own components that read files: the files are written first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog
from llmkit.core.kinds import Kind

TEXT = ("the first document\nhas two lines", "the second", "naïve 世界", "and a fourth")


def example_files(directory: Path, catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Component -> sets of parameters that name files in this directory: `given` for `cases`."""
    for index, text in enumerate(TEXT):
        (directory / f"{index}.txt").write_text(f"{text}\n\n{text}, again\n", encoding="utf-8")
    records = directory / "records.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXT), encoding="utf-8")
    tokenizer = directory / "tokenizer"
    tokenizer.mkdir()
    bpe = catalog.find(Kind.tokenizer, "bpe")
    bpe.resolve().train(bpe.params.model_validate({"vocab_size": 300, "special_tokens": ["<|user|>"]}), TEXT).save(tokenizer)
    return {
        "text": [{"paths": [str(directory / "*.txt")], "split": split} for split in ("file", "paragraph", "line")],
        "hub": [{"name": "json", "data_files": [str(records)]}],
        "pretrained": [{"path": str(tokenizer)}],
    }
