"""Shards of documents: Parquet files, complete or absent, written and read in flat memory.

pyarrow.parquet.read_table("00000-00000.parquet")        # columns id, text, source, licence, meta, media_type, place
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from llmkit.core.interfaces.source import Document
from llmkit.data.cache import flush
from llmkit.data.durable import draft_of

SHARD_BYTES = 32 << 20
"""Bytes of text after which a shard ends: the piece in which work is shared, and from which a killed run goes on."""

GROUP_BYTES = 2 << 20
"""Bytes of text that are held at once, where no document alone is longer."""

ENDING = "parquet"

_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "licence", "meta", "media_type")] + [("place", pa.uint64())])


class Row(NamedTuple):
    """A document, and the number that decides on which side of the split it is: `split.place_of` its text as it was read and extracted."""

    document: Document
    place: int


class ShardWriter:
    """Writes a shard as rows come. Use it in a `with`: at its end the file takes its name, and where that failed there is none."""

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, draft_of(path)
        self._file = self._draft.open("wb")
        self._writer = pq.ParquetWriter(
            self._file, _SCHEMA, compression="zstd", compression_level=1, use_dictionary=["source", "media_type"]
        )
        self._rows: list[Row] = []
        self._held = 0
        self.n_documents = self.n_bytes = 0

    def add(self, row: Row) -> int:
        """One more document; its bytes."""
        size = len(row.document.text.encode())
        self._rows.append(row)
        self._held += size
        self.n_documents += 1
        self.n_bytes += size
        if self._held >= GROUP_BYTES:
            self._write_group()
        return size

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pydict(_columns(self._rows), schema=_SCHEMA))
        self._rows, self._held = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._write_group()
                self._writer.close()
                self._file.close()
                flush(self._draft)
                self._draft.replace(self._path)
        finally:
            # Where something failed there is no more to be written, which the writer would try once more when it is forgotten.
            self._writer.is_open = False
            self._file.close()
            self._draft.unlink(missing_ok=True)


def read_groups(path: Path) -> Iterator[list[Row]]:
    """The rows of a shard, some MB of text at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            columns = file.read_row_group(group, use_threads=False).to_pydict()
            yield [_row(values) for values in zip(*(columns[name] for name in _SCHEMA.names), strict=True)]


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    documents = [row.document for row in rows]
    return {
        "id": [document.id for document in documents],
        "text": [document.text for document in documents],
        "source": [document.source for document in documents],
        "licence": [document.licence for document in documents],
        "meta": [json.dumps(document.meta, default=str) if document.meta else "" for document in documents],
        "media_type": [document.media_type for document in documents],
        "place": [row.place for row in rows],
    }


def _row(values: tuple[Any, ...]) -> Row:
    name, text, source, licence, meta, media_type, place = values
    return Row(Document(name, text, source, licence, json.loads(meta) if meta else {}, media_type), place)
