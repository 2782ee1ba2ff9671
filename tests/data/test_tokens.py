"""Token files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.data.tokens import Passage, TokenFile, TokenWriter

EOS = 9


def written(directory: Path, documents: list[list[int]], vocab_size: int = 10) -> TokenFile:
    with TokenWriter(directory, "train", vocab_size=vocab_size, eos_id=EOS, tokenizer="abc") as writer:
        for index, ids in enumerate(documents):
            writer.add(f"doc\n{index}", ids, 2 * len(ids))
    return TokenFile(directory, "train", tokenizer="abc")


@given(documents=st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=6))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]) -> None:
    tokens = written(tmp_path_factory.mktemp("tokens"), documents)
    assert tokens.tokens.tolist() == [EOS, *(token for ids in documents for token in [*ids, EOS])]
    assert [tokens.document(index).tolist() for index in range(len(documents))] == documents
    assert (tokens.n_documents, tokens.n_tokens, tokens.n_bytes) == (len(documents), len(tokens.tokens), 2 * sum(map(len, documents)))
    assert tokens.document_ids == [f"doc\n{index}" for index in range(len(documents))]
    tokens.verify()


def test_five_lines_of_numpy_read_it(tmp_path: Path) -> None:
    written(tmp_path, [[1, 2], [3], [4, 5, 6], [7]])
    manifest = json.loads((tmp_path / "train.json").read_text())
    tokens = np.memmap(tmp_path / "train.bin", manifest["dtype"], mode="r")
    starts = np.memmap(tmp_path / "train.starts.bin", "<u8", mode="r")
    assert tokens[starts[2] : starts[3] - 1].tolist() == [4, 5, 6]
    assert json.loads((tmp_path / "train.ids.jsonl").read_text().splitlines()[2]) == "doc\n2"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "<u2"), (65537, "<u4")])
def test_ids_have_two_bytes_where_that_is_enough(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    tokens = written(tmp_path, [[vocab_size - 1]], vocab_size)
    assert tokens.manifest["dtype"] == dtype and tokens.document(0).tolist() == [vocab_size - 1]


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_passage_names_every_token_of_its_range(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    tokens = written(tmp_path_factory.mktemp("tokens"), [[1] * length for length in lengths])
    start = data.draw(st.integers(1, tokens.n_tokens - 1))
    end = data.draw(st.integers(start + 1, tokens.n_tokens))
    owner = [f"doc\n{index}" for index, length in enumerate(lengths) for _ in range(length + 1)]
    place = [place for length in lengths for place in range(length + 1)]
    named = [(passage.document, index) for passage in tokens.locate(start, end) for index in range(passage.start, passage.end)]
    assert named == list(zip(owner, place, strict=True))[start - 1 : end - 1]


def test_the_end_of_text_before_the_first_document_belongs_to_no_passage(tmp_path: Path) -> None:
    assert written(tmp_path, [[1, 2], [3]]).locate(0, 3) == [Passage("doc\n0", 0, 2)]


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [[1]])
    with pytest.raises(UserError, match="made with tokenizer abc, not with xyz"):
        TokenFile(tmp_path, "train", tokenizer="xyz")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [[1, 2, 3]])
    whole = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"train\.bin.*9 bytes.*5 numbers"):
        TokenFile(tmp_path, "train")


def test_a_modified_file_does_not_verify(tmp_path: Path) -> None:
    tokens = written(tmp_path, [[1, 2, 3]])
    whole = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(b"\7" + whole[1:])
    with pytest.raises(UserError, match="checksum"):
        tokens.verify()


def test_a_missing_or_foreign_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json"):
        TokenFile(tmp_path, "train")
    written(tmp_path, [[1]])
    manifest = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        TokenFile(tmp_path, "train")


def test_a_writer_that_fails_leaves_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(OverflowError), TokenWriter(tmp_path, "train", vocab_size=10, eos_id=EOS, tokenizer="abc") as writer:
        writer.add("x", [70_000], 1)
    assert not (tmp_path / "train.json").exists()
