"""Shards of documents."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.source import HTML, PLAIN, Document
from llmkit.data.document_shards import GROUP_BYTES, Row, ShardWriter, read_groups

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
documents = st.builds(
    Document,
    id=texts,
    text=texts,
    source=texts,
    licence=texts,
    meta=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.none() | st.integers() | texts, max_size=3),
    media_type=st.sampled_from([PLAIN, HTML]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.builds(Row, documents, st.integers(0, 2**64 - 1)), max_size=20))
def test_what_is_read_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("shards") / "00000.parquet"
    with ShardWriter(path) as writer:
        sizes = [writer.add(row) for row in rows]
    assert [row for group in read_groups(path) for row in group] == rows
    assert sizes == [len(row.document.text.encode()) for row in rows]
    assert (writer.n_documents, writer.n_bytes) == (len(rows), sum(sizes))


def test_anybody_reads_it_with_pyarrow(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.parquet") as writer:
        writer.add(Row(Document("a", "text of a", "books", "CC0-1.0", {"year": 1818}), 7))
    row = pq.read_table(tmp_path / "a.parquet").to_pylist()
    meta = '{"year": 1818}'
    told = {"id": "a", "text": "text of a", "source": "books", "licence": "CC0-1.0", "meta": meta, "media_type": PLAIN, "place": 7}
    assert row == [told]


def test_a_shard_is_read_some_megabytes_at_a_time(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.parquet") as writer:
        for number in range(40):
            writer.add(Row(Document(str(number), "x" * (GROUP_BYTES // 4)), number))
    groups = list(read_groups(tmp_path / "a.parquet"))
    assert [len(group) for group in groups] == [4] * 10
    assert [row.place for group in groups for row in group] == list(range(40))


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardWriter(tmp_path / "a.parquet") as writer:
            writer.add(Row(Document("a", "x" * (GROUP_BYTES + 1)), 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_older_shard_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with ShardWriter(path) as writer:
        writer.add(Row(Document("a", "old"), 0))
    with ShardWriter(path) as writer:
        writer.add(Row(Document("a", "new"), 0))
        assert next(read_groups(path))[0].document.text == "old"
    assert next(read_groups(path))[0].document.text == "new"
