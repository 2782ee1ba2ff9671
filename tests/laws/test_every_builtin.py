"""Every law on every built-in, beside every partner that the traits allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llmkit import catalog, runtime
from llmkit.core.kinds import Kind
from llmkit.testing import check, laws
from llmkit.testing.example_files import example_files

RECORDS = ("code", "html", "jsonl", "parquet", "warc")
FROM_FILES = {(Kind.tokenizer, "pretrained"), *((Kind.source, name) for name in ("pydoc", "text", "hub", *RECORDS))}
BUILTINS = [component for name in runtime.BUILTINS for component in import_module(name).llmkit_components()]
TEXT = ["the first document\nhas two lines", "the second", "naïve 世界", "and a fourth"]


@pytest.mark.llmkit_laws(*(component for component in BUILTINS if (component.kind, component.name) not in FROM_FILES))
def test_a_built_in_keeps_the_law(law: Callable[[], None]) -> None:
    law()


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_laws_and_each_has_a_statement(kind: Kind) -> None:
    found = laws(kind)
    assert len({law.name for law in found}) == len(found) > 4
    assert all(law.statement.endswith(".") and len(law.statement) > 30 for law in found)


def keeps_every_law(kind: Kind, name: str, params: Mapping[str, Any]) -> None:
    results = check(catalog().find(kind, name), params)
    assert len(results) == len(laws(kind))
    assert [result for result in results if not result.passed] == []


def test_the_pretrained_tokenizer_keeps_every_law(tmp_path: Path) -> None:
    bpe = catalog().find(Kind.tokenizer, "bpe")
    bpe.resolve().train(bpe.params(vocab_size=300, special_tokens=["<|user|>"]), TEXT).save(tmp_path)
    keeps_every_law(Kind.tokenizer, "pretrained", {"path": str(tmp_path)})


@pytest.mark.parametrize("split", ["file", "paragraph", "line"])
def test_the_text_source_keeps_every_law(tmp_path: Path, split: str) -> None:
    for index, text in enumerate(TEXT):
        (tmp_path / f"{index}.txt").write_text(f"{text}\n\n{text}, again\n", encoding="utf-8")
    keeps_every_law(Kind.source, "text", {"paths": [str(tmp_path / "*.txt")], "split": split})


@pytest.mark.parametrize("name", RECORDS)
def test_a_source_of_files_keeps_every_law(tmp_path: Path, name: str) -> None:
    for params in example_files(tmp_path, catalog())[name]:
        keeps_every_law(Kind.source, name, params)


@pytest.mark.slow
def test_the_hub_source_keeps_every_law_on_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXT), encoding="utf-8")
    keeps_every_law(Kind.source, "hub", {"name": "json", "data_files": [str(tmp_path / "data.jsonl")]})


@pytest.mark.slow
def test_the_pydoc_source_keeps_every_law() -> None:
    keeps_every_law(Kind.source, "pydoc", {})
