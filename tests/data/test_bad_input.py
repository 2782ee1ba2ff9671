"""Bad input of every kind: counted and set aside, or refused with a message that names it; what is good beside it is read."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from llmkit import catalog, load_spec
from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Source
from llmkit.core.kinds import Kind
from llmkit.data.prepare import prepare

LINE = b'{"text": "a line"}\n'
NOBODY = 65534


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def page_record(number: int, length: int | None = None) -> bytes:
    page = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><p>page {number}</p></html>".encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\nContent-Type: application/http\r\n"
    return f"{head}Content-Length: {len(page) if length is None else length}\r\n\r\n".encode() + page + b"\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """Files, the source that reads them, and what becomes of them.

    files    name -> bytes, or what makes the file
    read     how many documents there are
    broken   the reasons of what is set aside
    refused  instead, what the message says
    texts    what the documents say, where that is the point
    """

    source: str
    files: dict[str, bytes | Callable[[Path], object]]
    read: int = 0
    broken: tuple[str, ...] = ()
    refused: str = ""
    texts: tuple[str, ...] = ()
    params: tuple[tuple[str, object], ...] = ()


CUT = gzip.compress(LINE * 5_000)[:-20]
MIXED = "\u202eمرحبا e\u0301\u0327 \u200d👩\u200d👩 क्षि"  # noqa: RUF001
LINES = (("split", "line"),)
CASES = {
    "invalid UTF-8": Case("text", {"a": b"one\nb\xe9d\ntwo\n"}, 2, ("is no UTF-8",), params=LINES),
    "invalid UTF-8 in JSON": Case("jsonl", {"a": LINE + b'{"text": "\xff"}\n' + LINE}, 2, ("is no UTF-8",)),
    "truncated gzip": Case("jsonl", {"a.gz": CUT}, zlib.decompressobj(31).decompress(CUT).count(b"\n"), ("is cut off",)),
    "truncated xz": Case("text", {"a.xz": lzma.compress(b"one\n" * 9)[:-8]}, 9, ("is cut off",), params=LINES),
    "truncated zstd": Case("jsonl", {"a.zst": zstandard.compress(os.urandom(1 << 20).hex().encode())[:-8]}, 0, ("is cut off",)),
    "damaged gzip": Case("jsonl", {"a.gz": gzip.compress(LINE)[:-8] + bytes(8)}, 1, ("is no gzip, or damaged",)),
    "a text named .gz": Case("jsonl", {"a.gz": LINE}, 0, ("is no gzip, or damaged",)),
    "a text named .xz": Case("jsonl", {"a.xz": LINE}, 0, ("is no xz, or damaged",)),
    "a text named .bz2": Case("jsonl", {"a.bz2": LINE}, 0, ("is no bzip2, or damaged",)),
    "a text named .zst": Case("jsonl", {"a.zst": LINE}, 0, ("is no zstd, or damaged",)),
    "gzip members one after another": Case("jsonl", {"a.gz": gzip.compress(LINE) + gzip.compress(LINE)}, 2),
    "a gzip with something behind it": Case("jsonl", {"a.gz": gzip.compress(LINE) + b"tail"}, 1, ("is no gzip, or damaged",)),
    "a JSON line cut in half": Case("jsonl", {"a": LINE + b'{"text": "a li\n' + LINE}, 2, ("is no JSON",)),
    "a file that ends in half a line": Case("jsonl", {"a": LINE + b'{"text": "a li'}, 1, ("is no JSON",)),
    "JSON that is no object": Case("jsonl", {"a": b'["text"]\n3\nnull\n' + LINE}, 1, ("is no JSON object",) * 3),
    "JSON nested beyond measure": Case("jsonl", {"a": b"[" * 200_000 + b"\n" + LINE}, 1, ("is no JSON",)),
    "a line of 100 MB": Case(
        "jsonl", {"a": lambda path: long_line(path, 100_000_000)}, 2, ("is longer than max_bytes",), texts=("before", "after")
    ),
    "a paragraph of 40 MB": Case(
        "text",
        {"a": b"one\n\n" + (b"x" * 999_999 + b"\n") * 40 + b"\ntwo"},
        2,
        ("is longer than max_bytes",),
        params=(("split", "paragraph"),),
    ),
    "a file of 40 MB that is one document": Case("text", {"a": b"x" * 40_000_000, "b": b"good"}, 1, ("is longer than max_bytes",)),
    "an empty file": Case("text", {"a": b"", "b": b"good"}, 1, ("is empty",)),
    "an empty gzip": Case("jsonl", {"a.gz": gzip.compress(b""), "b.gz": b"", "c.gz": gzip.compress(LINE)}, 1, ("is empty",) * 2),
    "a file of blank lines": Case("jsonl", {"a": b"\n \n\r\n" + LINE}, 1),
    "mixed newlines": Case("text", {"a": b"one\r\ntwo\n\r\nthree\rthree"}, 3, texts=("one", "two", "three\rthree"), params=LINES),
    "NUL bytes": Case("text", {"a": b"one\ntw\0o\nthree\n"}, 2, ("holds NUL bytes",), params=LINES),
    "NUL in JSON": Case("jsonl", {"a": b'{"text": "a\\u0000b"}\n{"text": "a\0b"}\n' + LINE}, 1, ("holds NUL bytes",) * 2),
    "right-to-left and combining text": Case(
        "jsonl",
        {"a": f'{{"text": "{MIXED}"}}\n'.encode()},
        1,
        texts=(MIXED,),
    ),
    "half a UTF-16 pair": Case("jsonl", {"a": b'{"text": "a\\ud800b"}\n'}, 1, texts=("a\ud800b",)),
    "a byte order mark": Case("jsonl", {"a": b"\xef\xbb\xbf" + LINE}, 1, texts=("a line",)),
    "a UTF-16 file": Case("jsonl", {"a": LINE.decode().encode("utf-16"), "b": LINE}, 1, ("is UTF-16, not UTF-8",)),
    "a UTF-16 text": Case("text", {"a": "naïve".encode("utf-16")}, 0, ("is UTF-16, not UTF-8",)),
    "a column missing in a record": Case("jsonl", {"a": LINE + b'{"body": "x"}\n{}\n'}, 1, ("has no such column",) * 2),
    "a column missing in a Parquet file": Case(
        "parquet", {"a": parquet_bytes([{"body": "x"}])}, refused="has no column 'text'; it has body"
    ),
    "text of a wrong type": Case("jsonl", {"a": LINE + b'{"text": 3}\n{"text": ["x"]}\n'}, 1, ("has no text in its column",) * 2),
    "Parquet of a wrong type": Case("parquet", {"a": parquet_bytes([{"text": 3}])}, 0, ("has no text in its column",)),
    "null text": Case("jsonl", {"a": LINE + b'{"text": null}\n'}, 1, ("has null for text",)),
    "null in Parquet": Case("parquet", {"a": parquet_bytes([{"text": "x"}, {"text": None}])}, 1, ("has null for text",)),
    "ids that are there twice": Case("jsonl", {"a": b'{"text": "x", "id": 1}\n' * 2}, 2, params=(("id_column", "id"),)),
    "a torn WARC record": Case(
        "warc", {"a.warc": page_record(0) + page_record(1)[:-20]}, 1, ("is cut off, or has a wrong Content-Length",)
    ),
    "a wrong Content-Length": Case(
        "warc", {"a.warc": page_record(0, 9999) + page_record(1)}, 1, ("is cut off, or has a wrong Content-Length",)
    ),
    "a torn member of a WARC": Case(
        "warc",
        {"a.warc.gz": gzip.compress(page_record(0))[:50] + gzip.compress(page_record(1))},
        1,
        ("is no gzip, or damaged",),
    ),
    "a truncated Parquet file": Case("parquet", {"a": parquet_bytes([{"text": "x"}])[:-30]}, 0, ("is no Parquet, or cut off",)),
    "an empty Parquet file": Case("parquet", {"a": b""}, 0, ("is no Parquet, or cut off",)),
    "an image named .html": Case("html", {"a.html": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"}, 0, ("is no text",)),
    "a directory for a file": Case("text", {"a": Path.mkdir}, refused=r"is a directory; write '.*/a/\*\*/\*\.txt'"),
    "a file that is not there": Case("text", {}, refused="no file matches"),
    "a link that leads nowhere": Case(
        "text", {"a": lambda path: path.symlink_to("gone")}, refused="is a link to 'gone', which leads nowhere"
    ),
    "a link that leads to itself": Case("text", {"a": lambda path: path.symlink_to(path)}, refused="is a link to .*, which leads nowhere"),
    "a folder that holds itself": Case("text", {"a": b"one", "b": lambda path: path.symlink_to(path.parent)}, 1),
    "a file that may not be read": Case("text", {"a": lambda path: closed(path)}, refused=r"cannot read '.*/a': Permission denied"),
    "a folder that may not be entered": Case("text", {"a": lambda path: path.mkdir(0), "b": b"x"}, refused=r"cannot look into '.*/a'"),
}

LARGE = ("truncated gzip", "a line of 100 MB", "a paragraph of 40 MB", "a file of 40 MB that is one document")


def long_line(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(size // 1_000_000):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"text": "after"}\n')


def closed(path: Path) -> None:
    path.write_bytes(b"secret")
    path.chmod(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that everybody may enter, so that root can become nobody, from whom something can be withheld."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


def made(case: Case, folder: Path) -> Source:
    for name, content in case.files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            content(folder / name)
    component = catalog().find(Kind.source, case.source)
    pattern = folder / "a" if len(case.files) < 2 else folder / "**" / "*"
    if len(case.files) == 1:
        pattern = folder / next(iter(case.files))
    source: Source = component.resolve()(component.params.model_validate({"paths": [str(pattern)], **dict(case.params)}))
    return source


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_counted_or_refused(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    source = made(case, folder)
    request.getfixturevalue("as_nobody")
    if case.refused:
        with pytest.raises(UserError, match=case.refused):
            list(source.documents(0, 1))
        return
    records = list(source.documents(0, 1))
    documents = [record for record in records if isinstance(record, Document)]
    assert tuple(record.reason for record in records if isinstance(record, Broken)) == case.broken
    assert len(documents) == case.read
    assert len({record.id for record in records}) == len(records)
    assert not case.texts or tuple(document.text for document in documents) == case.texts


def test_a_line_of_100_mb_is_read_over_in_less_memory_than_it_has(folder: Path) -> None:
    source = made(CASES["a line of 100 MB"], folder)
    tracemalloc.start()
    assert len(list(source.documents(0, 1))) == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # As much as a record may have, once as it came and once more while a block is added.
    assert peak < 70_000_000


def test_prepared_data_tells_of_every_broken_record_and_has_all_that_is_good(folder: Path) -> None:
    cases = [case for name, case in CASES.items() if case.read and name not in LARGE]
    sources: dict[str, Any] = {}
    for index, case in enumerate(cases):
        (folder / f"{index}").mkdir()
        made(case, folder / f"{index}")
        same = " ".join(map(str, (case.source, *case.params)))
        source = sources.setdefault(same, {"type": case.source, "paths": [], **dict(case.params)})
        source["paths"].append(str(folder / f"{index}" / "**" / "*"))
    (folder / "good.txt").write_text("".join(f"good line {number}\n" for number in range(100)))
    sources["good"] = {"type": "text", "paths": [str(folder / "good.txt")], "split": "line"}
    spec = load_spec(
        {
            "name": "bad",
            "tokenizer": "bytes",
            "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 64},
            "data": {"sources": sources, "extractor": {"type": "resiliparse", "main_content": False}, "cache": str(folder / "cache")},
            "train": {"steps": 1},
        }
    )
    broken = sum(len(case.broken) for case in cases)
    with pytest.warns(UserWarning, match=f"{broken} records were no documents"):
        funnel = prepare(spec, workers=1).funnel
    assert sum(funnel.broken.values()) == broken
    assert set(funnel.broken) == {reason for case in cases for reason in case.broken}
    read = funnel.stages[0]
    assert read.after.documents == 100 + sum(case.read for case in cases)


def test_what_a_source_skips_is_counted_and_nothing_that_strict_stops_at(folder: Path) -> None:
    (folder / "src").mkdir()
    for number in range(40):
        licence = "MIT" if number % 4 else "GPL-3.0-only"
        (folder / f"src/{number}.py").write_text(f"# SPDX-License-Identifier: {licence}\nprint({number})\n")
    data: dict[str, Any] = {"source": {"type": "code", "paths": [str(folder / "src")]}, "cache": str(folder / "cache"), "validation": 0.3}
    model = {"d_model": 32, "n_layers": 1, "max_seq_len": 64}
    spec = load_spec({"name": "code", "tokenizer": "bytes", "model": model, "data": data, "train": {"steps": 1}})
    funnel = prepare(spec, workers=1, strict=True).funnel
    assert funnel.broken == {}
    assert funnel.stages[0].reasons == {"has another licence": 10} and funnel.stages[0].after.documents == 30
    data["source"]["licences"] = ["ISC"]
    spec = load_spec({"name": "code", "tokenizer": "bytes", "model": model, "data": data, "train": {"steps": 1}})
    with pytest.raises(UserError, match=r"yields no text: left out were 40 \(has another licence\)"):
        prepare(spec, workers=1)


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="this system has no such names of files")
def test_half_pairs_of_utf_16_are_written_wherever_they_stand(folder: Path) -> None:
    lines = [f'{{"text": "line {number}", "licence": "a \\ud800", "id": "\\ud800"}}\n'.encode() for number in range(60)]
    # A name that is no UTF-8 comes from the system as such halves.
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jsonl")).write_bytes(b"".join([b'{"text": "cut in ha\n', *lines]))
    columns = {"licence_column": "licence", "id_column": "id", "meta": ["licence"]}
    source = {"type": "jsonl", "paths": [str(folder / "*.jsonl")], **columns}
    data = {"source": source, "cache": str(folder / "cache"), "validation": 0.3}
    model = {"d_model": 32, "n_layers": 1, "max_seq_len": 64}
    spec = load_spec({"name": "halves", "tokenizer": "bytes", "model": model, "data": data, "train": {"steps": 1}})
    with pytest.warns(UserWarning, match="1 records were no documents"):
        prepared = prepare(spec, workers=1)
    assert prepared.train.n_documents + prepared.validation.n_documents == 60
    assert {document.licence for document in prepared.validation_documents()} == {"a \ufffd"}
