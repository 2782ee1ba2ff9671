"""A document out of a record with columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmkit.core.interfaces.source import Document
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.components import ColumnsParams
from llmkit.plugins.sources.files import without_nul


def document_of(record: Mapping[str, Any], place: str, params: ColumnsParams, source: str) -> Document:
    """The document at this place; raises `Unreadable` where a column is missing or is no text."""
    text = text_in(record, params.column)
    name = place
    if params.id_column is not None:
        name = f"{_in(record, params.id_column)}@{place}"
    licence = str(record.get(params.licence_column) or "") if params.licence_column else ""
    meta = {column: plain(record[column]) for column in params.meta if record.get(column) is not None}
    return Document(name, text, source, licence or params.licence, meta)


def text_in(record: Mapping[str, Any], column: str) -> str:
    """The text of a column; raises `Unreadable` where it is missing, null, or something else."""
    text = _in(record, column)
    if text is None:
        raise Unreadable("has null for text", f"in column {column!r}")
    if not isinstance(text, str):
        raise Unreadable("has no text in its column", f"column {column!r} holds {type(text).__name__}")
    return without_nul(text)


def plain(value: Any) -> Any:
    """A value that JSON holds: itself, or how it is written (a date, a decimal)."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=str))
    except ValueError:
        return str(value)


def _in(record: Mapping[str, Any], column: str) -> Any:
    if column not in record:
        raise Unreadable("has no such column", f"there is no {column!r}; it has {', '.join(map(repr, record)) or 'none'}")
    return record[column]
