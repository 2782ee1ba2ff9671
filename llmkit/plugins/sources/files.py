"""Documents out of files: what every source that reads files has in common."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Source
from llmkit.core.packages import installed
from llmkit.plugins.sources.blocks import Unreadable
from llmkit.plugins.sources.components import FilesParams
from llmkit.plugins.sources.paths import matching
from llmkit.plugins.sources.pieces import RAW, Piece

Records = Iterator[Document | Broken]

SHARD = 1 << 26
"""Bytes of a shard of small files."""


class Files(Source):
    """A shard reads every so manieth file; where there are more shards than files, several read one, each every so manieth record.

    Only `read` is to be written, and what the messages say.
    """

    called: ClassVar[str]
    """The source's name in messages."""
    pattern: ClassVar[str]
    """What its files are called, for whoever gave a directory."""

    package: ClassVar[str] = ""
    """The distribution whose version decides what the text is."""

    params: FilesParams

    def read(self, path: Path) -> Records:
        """The records of a file. It may raise `Unreadable` where there is no going on, and `OSError`."""
        raise NotImplementedError

    def find(self) -> list[Path]:
        """The files that there are, in their order."""
        return matching(self.params.paths, self.called, self.pattern)

    @cached_property
    def files(self) -> list[Path]:
        """The same, looked up once."""
        return self.find()

    def documents(self, shard: int, of: int) -> Records:
        files = self.files
        for index in range(shard % len(files), len(files), of):
            readers = len(range(index, of, len(files)))
            yield from islice(self._records(files[index]), shard // len(files), None, max(readers, 1))

    def shards(self) -> int:
        """As many as there are files; fewer where they are small."""
        size = sum(self.status(path).st_size for path in self.files)
        return max(1, min(len(self.files), -(-size // SHARD)))

    def fingerprint(self) -> str:
        # With the whole path: one cache serves many directories, in which other files may have the same name, size and time.
        files = [(os.path.abspath(path), status.st_size, status.st_mtime_ns) for path in self.decisive() for status in [self.status(path)]]
        return hashlib.sha256(repr((self.params, files, self.package and installed(self.package))).encode()).hexdigest()[:16]

    def decisive(self) -> list[Path]:
        """The files that decide what the documents are."""
        return self.files

    def status(self, path: Path) -> os.stat_result:
        """Its size and its time."""
        try:
            return self._status(path)
        except OSError as error:
            raise UserError(f"{self.called} source: cannot read {str(path)!r}: {error.strerror or error}") from error

    def _status(self, path: Path) -> os.stat_result:
        return path.stat()

    def _records(self, path: Path) -> Records:
        try:
            yield from self.read(path)
        except Unreadable as error:
            yield Broken(str(path), error.reason, error.detail)
        except OSError as error:
            raise UserError(f"{self.called} source: cannot read {str(path)!r}: {error.strerror or error}") from error


def text_of(piece: Piece) -> str:
    """The text of a piece; raises `Unreadable`."""
    held_whole(piece)
    try:
        return without_nul(piece.data.decode("utf-8"))
    except UnicodeDecodeError as error:
        byte, place = piece.data[error.start], piece.offset + error.start
        raise Unreadable("is no UTF-8", f"byte 0x{byte:02x} at offset {place}") from error


def held_whole(piece: Piece) -> None:
    """Raise `Unreadable` where a piece is longer than allowed."""
    if not piece.whole:
        raise Unreadable("is longer than max_bytes", f"{piece.length} bytes")


def without_nul(text: str) -> str:
    """The text itself; raises `Unreadable` where it holds a NUL, which no text does: it is binary, or a disk lost what stood there."""
    place = text.find("\0")
    if place >= 0:
        raise Unreadable("holds NUL bytes", f"the first is character {place}")
    return text


def broken(identity: str, error: Unreadable, data: bytes) -> Broken:
    """The record that was found to be none."""
    return Broken(identity, error.reason, error.detail, data[:RAW])
