"""Token files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.data.tokens import Passage, SourceRange, TokenFile, TokenWriter, has_shard, seal

EOS = 9
FACTS = {"vocab_size": 10, "eos_id": EOS, "tokenizer": "abc"}

Documents = list[list[int]]
some_documents = st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=8)


def written(directory: Path, *shards: Documents, sources: dict[str, int] | None = None, vocab_size: int = 10) -> TokenFile:
    """A file of these shards. Document 3 is called `doc\\n3`, whichever shard it lies in."""
    index = 0
    for number, documents in enumerate(shards):
        with TokenWriter(directory, "train", vocab_size=vocab_size, eos_id=EOS, tokenizer="abc", shard=number) as writer:
            for ids in documents:
                writer.add(f"doc\n{index}", ids, 2 * len(ids))
                index += 1
    seal(directory, "train", sources=sources or {"text": index})
    return TokenFile(directory, "train", tokenizer="abc")


def cut(documents: Documents, cuts: list[int]) -> list[Documents]:
    """The documents as shards, cut before these places."""
    places = [0, *sorted(place % (len(documents) + 1) for place in cuts), len(documents)]
    return [documents[start:end] for start, end in pairwise(places)]


def whole(documents: Documents) -> list[int]:
    return [EOS, *(token for ids in documents for token in [*ids, EOS])]


@given(documents=some_documents, cuts=st.lists(st.integers(0, 100), max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, documents: Documents, cuts: list[int]) -> None:
    tokens = written(tmp_path_factory.mktemp("tokens"), *cut(documents, cuts))
    assert tokens.read().tolist() == whole(documents) and tokens.n_shards == len(cuts) + 1
    assert [tokens.document(index).tolist() for index in range(len(documents))] == documents
    assert (tokens.n_documents, tokens.n_tokens, tokens.n_bytes) == (len(documents), len(whole(documents)), 2 * sum(map(len, documents)))
    assert [tokens.document_bytes(index) for index in range(len(documents))] == [2 * len(ids) for ids in documents]
    assert tokens.document_ids == [f"doc\n{index}" for index in range(len(documents))]
    assert [tokens.document_id(index) for index in range(len(documents))] == tokens.document_ids
    assert tokens.manifest["sha256"] == hashlib.sha256(np.array(whole(documents), "<u2").tobytes()).hexdigest()
    tokens.verify()


@given(documents=some_documents, cuts=st.lists(st.integers(0, 100), max_size=4), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_stretch_is_right_across_the_cuts(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, cuts: list[int], data: st.DataObject
) -> None:
    tokens = written(tmp_path_factory.mktemp("tokens"), *cut(documents, cuts))
    start = data.draw(st.integers(0, tokens.n_tokens + 2))
    end = data.draw(st.integers(start, tokens.n_tokens + 2))
    assert tokens.read(start, end).tolist() == whole(documents)[start:end]
    assert tokens.read(start, end).dtype == np.uint16


@given(documents=some_documents, cuts=st.lists(st.integers(0, 100), max_size=3), borders=st.lists(st.integers(0, 100), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_source_is_its_documents_each_with_the_end_of_text_after_it(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, cuts: list[int], borders: list[int]
) -> None:
    parts = cut(documents, borders)
    sources = {f"source {index}": len(part) for index, part in enumerate(parts)}
    tokens = written(tmp_path_factory.mktemp("tokens"), *cut(documents, cuts), sources=sources)
    assert [one.source for one in tokens.sources] == list(sources)
    assert [one.documents for one in tokens.sources] == list(sources.values())
    assert [tokens.read(one.start, one.end).tolist() for one in tokens.sources] == [whole(part)[1:] for part in parts]


def test_five_lines_of_numpy_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmkit.data import tokens

    written(tmp_path, [[1, 2], [3], [4], [5, 6, 7], [8]])
    monkeypatch.chdir(tmp_path)
    assert tokens.__doc__ is not None
    lines = [line for line in tokens.__doc__.splitlines() if line.startswith("    ") and " = " in line]
    found: dict[str, np.ndarray] = {}
    exec("import json, numpy\n" + "\n".join(line.strip() for line in lines), found)
    assert len(lines) == 5 and found["document"].tolist() == [5, 6, 7]
    assert json.loads((tmp_path / "train-00000.ids.jsonl").read_text().splitlines()[3]) == "doc\n3"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "<u2"), (65537, "<u4")])
def test_ids_have_two_bytes_where_that_is_enough(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    tokens = written(tmp_path, [[vocab_size - 1]], vocab_size=vocab_size)
    assert tokens.manifest["dtype"] == dtype and tokens.document(0).tolist() == [vocab_size - 1]


def test_ids_may_come_as_an_array(tmp_path: Path) -> None:
    with TokenWriter(tmp_path, "train", **FACTS) as writer:
        writer.add("a", np.array([1, 2], np.int32), 2)
        writer.add("b", np.array([], np.uint16), 0)
    seal(tmp_path, "train", sources={"text": 2})
    assert TokenFile(tmp_path, "train").read().tolist() == [EOS, 1, 2, EOS, EOS]


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8), cuts=st.lists(st.integers(0, 100), max_size=3), data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_passage_names_every_token_of_its_range(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cuts: list[int], data: st.DataObject
) -> None:
    tokens = written(tmp_path_factory.mktemp("tokens"), *cut([[1] * length for length in lengths], cuts))
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
    bytes_written = (tmp_path / "train-00000.bin").read_bytes()
    (tmp_path / "train-00000.bin").write_bytes(bytes_written[:-1])
    with pytest.raises(UserError, match=r"train-00000\.bin.*9 bytes.*5 numbers"):
        TokenFile(tmp_path, "train")
    (tmp_path / "train-00000.bin").unlink()
    with pytest.raises(UserError, match=r"train-00000\.bin.*missing.*prepare the data again"):
        TokenFile(tmp_path, "train")


@pytest.mark.parametrize("ending", ["bin", "starts.bin", "sizes.bin", "ids.jsonl"])
def test_a_modified_file_does_not_verify(tmp_path: Path, ending: str) -> None:
    tokens = written(tmp_path, [[1, 2, 3]], [[4]])
    path = tmp_path / f"train-00001.{ending}"
    path.write_bytes(b"\7" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=rf"train-00001\.{ending}.*checksum"):
        tokens.verify()


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.json"):
        TokenFile(tmp_path, "train")
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(UserError, match=r"train\.json.*no JSON"):
        TokenFile(tmp_path, "train")


@pytest.mark.parametrize("manifest", [{"format": 1}, {"format": 99}, {}])
def test_another_format_is_to_be_prepared_again(tmp_path: Path, manifest: dict[str, int]) -> None:
    (tmp_path / "train.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"format {manifest.get('format')}.*reads format 2: prepare the data again"):
        TokenFile(tmp_path, "train")


@pytest.mark.parametrize("ids", [[70_000], [-1], np.array([65_536]), np.array([-1])], ids=str)
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(OverflowError), TokenWriter(tmp_path, "train", **FACTS) as writer:
        writer.add("x", ids, 1)
    assert list(tmp_path.iterdir()) == [] and not has_shard(tmp_path, "train", 0)


def test_a_shard_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    with TokenWriter(tmp_path, "train", shard=1, **FACTS) as writer:
        writer.add("x", [1], 1)
        assert not has_shard(tmp_path, "train", 1) and all(path.name.startswith(".") for path in tmp_path.iterdir())
    assert has_shard(tmp_path, "train", 1) and not any(path.name.startswith(".") for path in tmp_path.iterdir())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"train-00001.{ending}" for ending in ("bin", "ids.jsonl", "json", "sizes.bin", "starts.bin")]


def test_a_shard_that_cannot_be_written_again_stays_as_it_was(tmp_path: Path) -> None:
    before = written(tmp_path, [[1, 2]]).read().tolist()
    with pytest.raises(OverflowError), TokenWriter(tmp_path, "train", **FACTS) as writer:
        writer.add("x", [70_000], 1)
    assert TokenFile(tmp_path, "train").read().tolist() == before


def test_a_missing_shard_is_not_sealed_over(tmp_path: Path) -> None:
    for shard in (0, 2):
        with TokenWriter(tmp_path, "train", shard=shard, **FACTS) as writer:
            writer.add("x", [1], 1)
    with pytest.raises(ValueError, match="1 shards of 'train' have 1 documents, not 2"):
        seal(tmp_path, "train", sources={"text": 2})
    assert not (tmp_path / "train.json").exists()


def test_shards_of_two_tokenizers_are_not_sealed_together(tmp_path: Path) -> None:
    for shard, tokenizer in enumerate(("abc", "xyz")):
        with TokenWriter(tmp_path, "train", shard=shard, **FACTS | {"tokenizer": tokenizer}):
            pass
    with pytest.raises(ValueError, match="differ"):
        seal(tmp_path, "train", sources={})


def test_a_source_without_documents_has_no_tokens(tmp_path: Path) -> None:
    tokens = written(tmp_path, [[1]], [[2, 3]], sources={"a": 1, "none": 0, "b": 1})
    assert tokens.sources == [SourceRange("a", 1, 1, 3), SourceRange("none", 0, 3, 3), SourceRange("b", 1, 3, 6)]


def test_a_document_that_is_not_there_is_an_index_error(tmp_path: Path) -> None:
    tokens = written(tmp_path, [[1]], [[2]])
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"document {index} of 2"):
            tokens.document(index)


def test_two_hundred_shards_read_as_one(tmp_path: Path) -> None:
    documents = [[index % 9] * (index % 5) for index in range(400)]
    tokens = written(tmp_path, *(documents[index : index + 2] for index in range(0, 400, 2)))
    expected = whole(documents)
    starts = list(accumulate((len(ids) + 1 for ids in documents), initial=1))
    assert all(tokens.read(start, start + 17).tolist() == expected[start : start + 17] for start in starts)
    assert tokens.document_id(399) == "doc\n399"


def test_a_full_disk_leaves_no_shard(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's: the bytes that were written before are there, and the last are not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            written(tmp_path, [[1] * 1000] * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == [] and not has_shard(tmp_path, "train", 0)
