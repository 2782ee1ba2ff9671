"""The source `text`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document
from llmkit.plugins.sources import blocks as module
from llmkit.plugins.sources.components import TextParams
from llmkit.plugins.sources.text import Text


def documents(paths: object, **params: object) -> list[Document]:
    return list(Text(TextParams(paths=paths, **params)).documents(0, 1))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second\n", encoding="utf-8")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve\n\nnext\npart\r\n \r\nlast")
    (tmp_path / "sub/c.txt").write_text("third<|endoftext|>fourth\n<|endoftext|>", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_a_document(folder: Path) -> None:
    assert [(document.id, document.text) for document in documents("b.txt")] == [("b.txt", "second")]


def test_globs_are_sorted_looked_up_from_here_and_read_once(folder: Path) -> None:
    assert [document.id for document in documents(["b.txt", "**/*.txt"])] == ["b.txt", "a.txt", "sub/c.txt"]


def test_paragraphs_end_at_blank_lines(folder: Path) -> None:
    assert [(document.id, document.text) for document in documents("a.txt", split="paragraph")] == [
        ("a.txt#3", "naïve"),
        ("a.txt#11", "next\npart"),
        ("a.txt#25", "last"),
    ]


def test_lines_are_documents_and_blank_ones_are_not(folder: Path) -> None:
    assert [document.text for document in documents("a.txt", split="line")] == ["naïve", "next", "part", "last"]


def test_a_separator_ends_a_document(folder: Path) -> None:
    found = documents("sub/c.txt", separator="<|endoftext|>")
    assert [(document.id, document.text) for document in found] == [("sub/c.txt#0", "third"), ("sub/c.txt#18", "fourth")]


@given(text=st.text("ab-\n", min_size=1, max_size=60), block=st.integers(1, 7), separator=st.sampled_from(["-", "--", "ab", "-\n"]))
@settings(max_examples=80, deadline=None)
def test_a_separator_is_found_across_blocks(tmp_path_factory: pytest.TempPathFactory, text: str, block: int, separator: str) -> None:
    path = tmp_path_factory.mktemp("text") / "x"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = documents(str(path), separator=separator)
    assert [document.text for document in found] == [piece.strip("\r\n") for piece in text.split(separator) if piece.strip()]
    for document in found:
        offset = int(document.id.rpartition("#")[2])
        assert text[offset:].lstrip("\n").startswith(document.text)


@pytest.mark.parametrize(
    ("params", "kept"),
    [({}, []), ({"split": "line"}, ["good line"]), ({"split": "paragraph"}, ["good line"]), ({"separator": "|"}, ["x"])],
)
def test_a_byte_that_is_no_utf8_is_named_with_its_offset_and_the_rest_is_read(
    tmp_path: Path, params: dict[str, str], kept: list[str]
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good line\n\nbad \xff line|x\n")
    records = list(Text(TextParams(paths=str(tmp_path / "bad.txt"), **params)).documents(0, 1))  # type: ignore[arg-type]
    [broken] = [record for record in records if isinstance(record, Broken)]
    assert broken.reason == "is no UTF-8" and broken.detail == "byte 0xff at offset 15" and b"bad \xff" in broken.raw
    assert [record.text for record in records if isinstance(record, Document)] == kept


def test_what_matches_nothing_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no file matches '\*\.md'"):
        documents("*.md")
    with pytest.raises(UserError, match=r"'sub' is a directory; write 'sub/\*\*/\*\.txt'"):
        documents("sub")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "b.txt").chmod(0)
    with pytest.raises(UserError, match=r"cannot read 'b\.txt'"):
        documents("b.txt")


def test_shards_together_are_all_documents(folder: Path) -> None:
    source = Text(TextParams(paths=["**/*.txt"], split="line"))
    shards = [list(source.documents(shard, 3)) for shard in range(3)]
    assert sorted(document.id for shard in shards for document in shard) == sorted(document.id for document in source.documents(0, 1))
    assert all(shards)


def test_the_fingerprint_follows_the_files_and_the_parameters(folder: Path) -> None:
    def fingerprint(**params: object) -> str:
        return Text(TextParams(paths=["*.txt"], **params)).fingerprint()  # type: ignore[arg-type]

    first = fingerprint()
    assert fingerprint() == first != fingerprint(split="line")
    (folder / "b.txt").write_text("second, changed\n")
    assert fingerprint() != first


def test_files_of_two_directories_are_two_whatever_they_have_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As archives leave them: the same name, size and time."""
    fingerprints = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("corpus.txt").write_text(name)
        os.utime("corpus.txt", ns=(0, 0))
        fingerprints.add(Text(TextParams(paths=["corpus.txt"])).fingerprint())
    assert len(fingerprints) == 2
