"""Documents in a random order before they are packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from llmkit.core.spec import Spec
from llmkit.data import shuffling
from llmkit.data.prepare import prepare
from llmkit.data.shuffling import Shuffling, parts_of
from llmkit.data.tokens import TokenFile, TokenWriter, seal

MakeSpec = Callable[..., Spec]
SOURCES = {"a": 300, "none": 0, "b": 500, "one": 1}


@pytest.fixture
def ordered(tmp_path: Path) -> TokenFile:
    """Document i is called `i`, and is i % 7 times the token i; three shards."""
    directory = tmp_path / "ordered"
    directory.mkdir()
    for shard, (start, end) in enumerate([(0, 250), (250, 640), (640, 801)]):
        with TokenWriter(directory, "train", vocab_size=1000, eos_id=999, tokenizer="abc", shard=shard) as writer:
            for index in range(start, end):
                writer.add(str(index), [index] * (index % 7), index)
    seal(directory, "train", sources=SOURCES)
    return TokenFile(directory, "train")


def shuffled(ordered: TokenFile, directory: Path, *, backwards: bool = False) -> TokenFile:
    directory.mkdir()
    parts, tasks = parts_of(ordered)
    for task in reversed(tasks) if backwards else tasks:
        Shuffling(ordered.directory, "train", parts).run(directory, task)
    seal(directory, "train", sources=SOURCES)
    return TokenFile(directory, "train")


def documents(tokens: TokenFile) -> list[tuple[str, list[int], int]]:
    return [(name, tokens.document(at).tolist(), tokens.document_bytes(at)) for at, name in enumerate(tokens.document_ids)]


@pytest.mark.parametrize("shard_tokens", [200, 1 << 23])
def test_every_document_is_there_once_within_its_source(
    ordered: TokenFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_tokens: int
) -> None:
    monkeypatch.setattr(shuffling, "SHARD_TOKENS", shard_tokens)
    found = shuffled(ordered, tmp_path / "shuffled")
    assert found.n_shards == (18 if shard_tokens == 200 else 4)
    before, after = documents(ordered), documents(found)
    start = 0
    for count in SOURCES.values():
        assert sorted(after[start : start + count]) == sorted(before[start : start + count])
        start += count
    assert after[:300] != before[:300]
    assert (found.n_tokens, found.n_bytes, found.sources) == (ordered.n_tokens, ordered.n_bytes, ordered.sources)
    assert found.read()[0] == 999
    found.verify()


def test_the_tokens_do_not_depend_on_the_shards_nor_on_who_writes_them_when(
    ordered: TokenFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shuffled(ordered, tmp_path / "whole")
    monkeypatch.setattr(shuffling, "SHARD_TOKENS", 300)
    cut = shuffled(ordered, tmp_path / "cut", backwards=True)
    assert cut.n_shards > whole.n_shards and cut.manifest["sha256"] == whole.manifest["sha256"] and cut.document_ids == whole.document_ids


def test_neighbours_are_no_longer_neighbours(ordered: TokenFile, tmp_path: Path) -> None:
    names = [int(name) for name in shuffled(ordered, tmp_path / "shuffled").document_ids]
    places = np.array(names[300:800])
    assert stats.spearmanr(np.arange(500), places).pvalue > 1e-3
    assert (np.abs(np.diff(places)) == 1).mean() < 0.02


def test_prepared_data_are_shuffled_where_the_spec_says_so(make_spec: MakeSpec) -> None:
    stages: list[str] = []
    plain = prepare(make_spec())
    mixed = prepare(make_spec(data={"shuffle_documents": True}), progress=lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"shuffling"}, "what was encoded is used again"
    assert mixed.fingerprint != plain.fingerprint and mixed.train.document_ids != plain.train.document_ids
    assert sorted(documents(mixed.train)) == sorted(documents(plain.train))
    assert documents(mixed.validation) == documents(plain.validation)
    assert list(mixed.validation_documents()) == list(plain.validation_documents())
    assert mixed.funnel.stages == plain.funnel.stages
