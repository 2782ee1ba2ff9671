"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.columns import document_of
from llmkit.plugins.sources.components import ParquetParams
from llmkit.plugins.sources.files import Files, Records, broken

ROWS = 64
"""Rows that are decoded at once: what is held grows with the longest texts of a file, not with its row groups."""

UNREADABLE = (ValueError, OverflowError, KeyError)
"""What becomes of a value that Python has none for: a text that is no UTF-8, a year above 9999, a time zone that nobody knows."""


class Parquet(Files):
    """A record a row, read in batches, and only the columns that are asked for.

    A document's id is `path#row`; with `id_column`, `name@path#row`.
    """

    called = "parquet"
    pattern = "*.parquet"
    params: ParquetParams

    def read(self, path: Path) -> Records:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        with path.open("rb") as opened:
            try:
                file = ParquetFile(opened, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
            except (pyarrow.ArrowException, OSError) as error:
                raise Unreadable("is no Parquet, or cut off", str(error)) from error
            columns = self._columns(path, file.schema_arrow.names)
            first = 0
            for group in range(file.num_row_groups):
                yield from self._group(path, file, group, first, columns)
                first += file.metadata.row_group(group).num_rows

    def _group(self, path: Path, file: Any, group: int, first: int, columns: list[str]) -> Records:
        import pyarrow

        number = first
        try:
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns, use_threads=False):
                for row in _rows(batch):
                    yield self._document(f"{path}#{number}", row)
                    number += 1
        except (pyarrow.ArrowException, OSError) as error:
            yield Broken(f"{path}#{number}", "is in a damaged row group", f"row group {group}, from row {number} on: {error}")

    def _document(self, place: str, row: dict[str, Any] | Unreadable) -> Any:
        try:
            if isinstance(row, Unreadable):
                raise row
            document = document_of(row, place, self.params, self.called)
            # A character is four bytes at most: few texts are so long that they must be measured.
            if len(document.text) * 4 > self.params.max_bytes and (size := len(document.text.encode())) > self.params.max_bytes:
                raise Unreadable("is longer than max_bytes", f"{size} bytes")
        except Unreadable as error:
            return broken(place, error, b"")
        return document

    def _columns(self, path: Path, there: list[str]) -> list[str]:
        params = self.params
        wanted = [name for name in (params.column, params.id_column, params.licence_column) if name is not None]
        missing = [name for name in wanted if name not in there]
        if missing:
            raise UserError(f"parquet source: {str(path)!r} has no column {missing[0]!r}; it has {', '.join(there)}")
        return list(dict.fromkeys([*wanted, *(name for name in params.meta if name in there)]))


def _rows(batch: Any) -> Iterator[dict[str, Any] | Unreadable]:
    try:
        yield from batch.to_pylist()
    except UNREADABLE:
        # One of them is no UTF-8, which a writer should have refused, or a date beyond all years: each by itself, to find which.
        for index in range(batch.num_rows):
            yield _row(batch.slice(index, 1))


def _row(one: Any) -> dict[str, Any] | Unreadable:
    try:
        row: dict[str, Any] = one.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Unreadable("is no UTF-8", f"byte 0x{error.object[error.start]:02x} at {error.start} of a column")
    except UNREADABLE as error:
        return Unreadable("holds a value that cannot be read", str(error))
    return row
