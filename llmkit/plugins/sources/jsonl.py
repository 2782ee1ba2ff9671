"""Files of JSON objects, one a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmkit.core.interfaces.source import Document
from llmkit.plugins.sources.blocks import Unreadable, utf8_blocks_of
from llmkit.plugins.sources.columns import document_of
from llmkit.plugins.sources.components import JsonlParams
from llmkit.plugins.sources.files import Files, Records, broken, text_of
from llmkit.plugins.sources.pieces import Piece, separated


class Jsonl(Files):
    """A record a line, and of it a column of text, a name, and what is kept beside. Blank lines are left out.

    A document's id is `path#offset` with the byte at which its line starts, in what was decompressed; with `id_column`,
    `name@path#offset`, so that two records of one name stay two.
    """

    called = "jsonl"
    pattern = "*.jsonl"
    params: JsonlParams

    def read(self, path: Path) -> Records:
        start, blocks = utf8_blocks_of(path)
        for piece in separated(blocks, start, b"\n", self.params.max_bytes):
            if piece.whole and not piece.data.strip():
                continue
            place = f"{path}#{piece.offset}"
            try:
                yield self._document(place, piece)
            except Unreadable as error:
                yield broken(place, error, piece.data)

    def _document(self, place: str, piece: Piece) -> Document:
        return document_of(_parsed(text_of(piece)), place, self.params, self.called)


def _parsed(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise Unreadable("is no JSON", str(error)) from error
    except RecursionError as error:
        raise Unreadable("is no JSON", "it is nested too deep") from error
    if not isinstance(record, dict):
        raise Unreadable("is no JSON object", f"it is {type(record).__name__}")
    return record
