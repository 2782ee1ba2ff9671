"""Text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmkit.core.interfaces.source import Document
from llmkit.plugins.sources.blocks import Unreadable, utf8_blocks_of
from llmkit.plugins.sources.components import TextParams
from llmkit.plugins.sources.files import Files, Records, broken, text_of
from llmkit.plugins.sources.pieces import Piece, paragraphs, separated, whole


class Text(Files):
    """UTF-8 files, each a document, or cut into paragraphs, lines, or at a separator. Blank pieces are left out.

    A document's id is the path, or `path#offset` with the byte at which the piece starts, in what was decompressed. Of a file that is
    cut only a piece is held in memory.
    """

    called = "text"
    pattern = "*.txt"
    params: TextParams

    def read(self, path: Path) -> Records:
        one = self.params.split == "file" and self.params.separator is None
        for piece in self._pieces(path):
            identity = str(path) if one else f"{path}#{piece.offset}"
            try:
                text = text_of(piece).strip("\r\n")
            except Unreadable as error:
                yield broken(identity, error, piece.data)
                continue
            if text.strip():
                yield Document(identity, text, "text", self.params.licence)

    def _pieces(self, path: Path) -> Iterator[Piece]:
        params = self.params
        start, blocks = utf8_blocks_of(path)
        if params.separator is not None:
            return separated(blocks, start, params.separator.encode(), params.max_bytes)
        if params.split == "file":
            return iter([whole(blocks, start, params.max_bytes)])
        lines = separated(blocks, start, b"\n", params.max_bytes)
        return lines if params.split == "line" else paragraphs(lines, params.max_bytes)
