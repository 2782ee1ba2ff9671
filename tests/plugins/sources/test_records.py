"""The sources of records with columns, `jsonl` and `parquet`."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Source
from llmkit.plugins.sources.components import JsonlParams, ParquetParams
from llmkit.plugins.sources.jsonl import Jsonl
from llmkit.plugins.sources.parquet import Parquet

ROWS: list[dict[str, Any]] = [
    {"text": "one", "name": "a", "year": 1890, "by": {"first": "A", "last": None}, "terms": "MIT"},
    {"text": "zwei 世界", "name": "b", "year": None, "by": None, "terms": ""},
    {"text": "drei\u2028\x85", "name": "b", "year": 3, "by": None, "terms": None},
]
PEPS = Path(__file__).parents[3] / "../shared/data/peps"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


def jsonl(path: Path, **params: Any) -> Source:
    return Jsonl(JsonlParams(paths=[str(path)], **params))


def parquet(path: Path, **params: Any) -> Source:
    return Parquet(ParquetParams(paths=[str(path)], **params))


Kind = tuple[Callable[..., Source], Callable[[Path, list[dict[str, Any]]], None]]
KINDS = pytest.mark.parametrize("kind", [(jsonl, write_jsonl), (parquet, write_parquet)], ids=["jsonl", "parquet"])


def documents(source: Source) -> list[Document]:
    found = list(source.documents(0, 1))
    assert all(isinstance(record, Document) for record in found), found
    return found  # type: ignore[return-value]


@KINDS
def test_every_record_is_a_document_with_what_is_kept_beside(kind: Kind, tmp_path: Path) -> None:
    source, write = kind
    write(tmp_path / "x", ROWS)
    found = documents(source(tmp_path / "x", meta=["year", "by", "nothing"], licence_column="terms", licence="CC0-1.0"))
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert [document.meta for document in found] == [{"year": 1890, "by": {"first": "A", "last": None}}, {}, {"year": 3}]
    assert [document.licence for document in found] == ["MIT", "CC0-1.0", "CC0-1.0"]


@KINDS
def test_records_of_one_name_stay_two_documents(kind: Kind, tmp_path: Path) -> None:
    source, write = kind
    write(tmp_path / "x", ROWS)
    ids = [document.id for document in documents(source(tmp_path / "x", id_column="name"))]
    assert [identity.partition("@")[0] for identity in ids] == ["a", "b", "b"] and len(set(ids)) == 3


@KINDS
def test_shards_are_files_and_any_number_of_them_is_the_whole(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, write = kind
    monkeypatch.setattr("llmkit.plugins.sources.files.SHARD", 1)
    for name in "abc":
        write(tmp_path / name, [{**row, "text": f"{name} {row['text']}"} for row in ROWS])
    made = source(tmp_path / "*")
    whole = sorted(document.id for document in documents(made))
    assert made.shards() == 3 and len(whole) == 9
    for of in range(1, 12):
        assert sorted(record.id for shard in range(of) for record in made.documents(shard, of)) == whole
    assert {record.id.partition("#")[0] for record in made.documents(1, 3)} == {str(tmp_path / "b")}


def test_small_files_share_a_shard(tmp_path: Path) -> None:
    for number in range(50):
        write_jsonl(tmp_path / f"{number}.jsonl", ROWS)
    assert jsonl(tmp_path / "*.jsonl").shards() == 1


@pytest.mark.parametrize(
    ("ending", "compress"),
    [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress), ("zst", zstandard.compress), ("GZ", gzip.compress)],
)
def test_compressed_files_are_read_also_several_in_one(tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]) -> None:
    write_jsonl(tmp_path / "x.jsonl", ROWS)
    data = (tmp_path / "x.jsonl").read_bytes()
    half = data.index(b"\n") + 7
    (tmp_path / f"x.{ending}").write_bytes(compress(data[:half]) + compress(data[half:]))
    assert [document.text for document in documents(jsonl(tmp_path / f"x.{ending}"))] == [row["text"] for row in ROWS]


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes('{"text": "a\u2028b"}\r\n\n  \n{"text": "c\u0085"}'.encode())
    assert [document.text for document in documents(jsonl(tmp_path / "x"))] == ["a\u2028b", "c\u0085"]


def test_an_id_has_the_byte_at_which_its_line_begins(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x", ROWS)
    data = (tmp_path / "x").read_bytes()
    for document in documents(jsonl(tmp_path / "x")):
        start = int(document.id.rpartition("#")[2])
        assert json.loads(data[start:].partition(b"\n")[0])["text"] == document.text


def test_a_missing_parquet_column_is_the_users_to_mend(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x", ROWS)
    with pytest.raises(UserError, match=r"no column 'body'; it has text, name, year, by, terms"):
        documents(parquet(tmp_path / "x", column="body"))


def test_a_value_that_json_does_not_hold_is_kept_as_it_is_written(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x", [{"text": "t", "day": date(2020, 1, 2), "part": float("nan")}])
    assert documents(parquet(tmp_path / "x", meta=["day", "part"]))[0].meta == {"day": "2020-01-02", "part": "nan"}


def test_a_value_that_python_has_none_for_sets_its_row_aside(tmp_path: Path) -> None:
    days = pyarrow.array([1, 10**8, 2], pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "day": days}), tmp_path / "x")
    found = list(parquet(tmp_path / "x", meta=["day"]).documents(0, 1))
    assert [one.text for one in found if isinstance(one, Document)] == ["a", "c"]
    assert isinstance(found[1], Broken) and found[1].reason == "holds a value that cannot be read" and found[1].id.endswith("x#1")


def test_a_damaged_row_group_is_set_aside_and_the_next_is_read(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"{number} " + "x" * 2000 for number in range(30)]})
    pyarrow.parquet.write_table(
        table, tmp_path / "x", row_group_size=10, compression="gzip", use_dictionary=False, write_page_checksum=True
    )
    metadata = pyarrow.parquet.ParquetFile(tmp_path / "x").metadata
    column = metadata.row_group(1).column(0)
    data = bytearray((tmp_path / "x").read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    data[end - 20 : end - 10] = bytes(10)
    (tmp_path / "x").write_bytes(data)
    found = list(parquet(tmp_path / "x").documents(0, 1))
    assert [record.text.split()[0] for record in found if isinstance(record, Document)] == [*map(str, range(10)), *map(str, range(20, 30))]
    [broken] = [record for record in found if isinstance(record, Broken)]
    assert broken.reason == "is in a damaged row group" and "row group 1, from row 10 on" in broken.detail


def test_one_row_that_is_no_utf8_is_set_aside_alone(tmp_path: Path) -> None:
    table = pyarrow.table({"text": pyarrow.array([b"one", b"bad \xff", b"two"]).cast(pyarrow.binary()).view(pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "x")
    found = list(parquet(tmp_path / "x").documents(0, 1))
    assert [getattr(record, "text", None) or record.reason for record in found] == ["one", "is no UTF-8", "two"]  # type: ignore[union-attr]


@pytest.mark.skipif(not PEPS.exists(), reason="the PEPs lie beside the repository, and not here")
def test_the_peps_are_what_xz_and_json_give() -> None:
    [path] = PEPS.glob("*.jsonl.xz")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        expected = [json.loads(line) for line in file]
    found = documents(jsonl(path, id_column="id"))
    assert [document.text for document in found] == [record["text"] for record in expected]
    assert [document.id.partition("@")[0] for document in found] == [str(record["id"]) for record in expected]
