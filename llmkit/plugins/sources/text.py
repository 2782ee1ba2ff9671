"""Text files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from glob import glob
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Document, Source
from llmkit.plugins.sources.components import TextParams

BOM = b"\xef\xbb\xbf"
READ = 1 << 20
Piece = tuple[int, bytes]
"""The offset of its first byte in the file, and its bytes."""


class Text(Source):
    """UTF-8 files, each a document, or cut into paragraphs, lines, or at a separator. Blank pieces are left out.

    A document's id is the path, or `path#offset` with the byte at which the piece starts. A file that is cut is not held in memory whole.
    """

    params: TextParams

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        return islice(self._all(), shard, None, of)

    def fingerprint(self) -> str:
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self._files()]
        return hashlib.sha256(repr((self.params, files)).encode()).hexdigest()[:16]

    def _all(self) -> Iterator[Document]:
        for path in self._files():
            for offset, piece in self._pieces(path):
                text = _decode(path, offset, piece).strip("\r\n")
                if text.strip():
                    yield Document(str(path) if self._whole else f"{path}#{offset}", text, "text")

    @property
    def _whole(self) -> bool:
        return self.params.split == "file" and self.params.separator is None

    def _files(self) -> list[Path]:
        files: dict[Path, None] = {}
        for given in self.params.paths:
            files.update(dict.fromkeys(_matches(given)))
        return list(files)

    def _pieces(self, path: Path) -> Iterator[Piece]:
        try:
            with path.open("rb") as file:
                start = len(BOM) if file.read(len(BOM)) == BOM else 0
                file.seek(start)
                if self.params.separator is not None:
                    yield from _separated(file, start, self.params.separator.encode())
                elif self.params.split == "file":
                    yield start, file.read()
                elif self.params.split == "line":
                    yield from _lines(file, start)
                else:
                    yield from _paragraphs(file, start)
        except OSError as error:
            raise UserError(f"text source: cannot read {str(path)!r}: {error.strerror}") from error


def _matches(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        raise UserError(
            f"text source: {given!r} is a directory; write {str(path / '**' / '*.txt')!r}, or another pattern, for the files in it"
        )
    if path.is_file():
        return [path]
    found = sorted(match for match in map(Path, glob(str(path), recursive=True)) if match.is_file())
    if not found:
        raise UserError(f"text source: no file matches {given!r}, looked up from {str(Path.cwd())!r}")
    return found


def _decode(path: Path, offset: int, piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + error.start
        raise UserError(
            f"text source: {str(path)!r} is no UTF-8: byte 0x{piece[error.start]:02x} at offset {place}; convert it, such as with iconv"
        ) from error


def _lines(file: BinaryIO, offset: int) -> Iterator[Piece]:
    for line in file:
        yield offset, line
        offset += len(line)


def _paragraphs(file: BinaryIO, offset: int) -> Iterator[Piece]:
    start, paragraph = offset, b""
    for place, line in _lines(file, offset):
        if line.strip():
            start = start if paragraph else place
            paragraph += line
            continue
        yield start, paragraph
        paragraph = b""
    yield start, paragraph


def _separated(file: BinaryIO, offset: int, separator: bytes) -> Iterator[Piece]:
    rest = b""
    while block := file.read(READ):
        *whole, rest = (rest + block).split(separator)
        for piece in whole:
            yield offset, piece
            offset += len(piece) + len(separator)
    yield offset, rest
