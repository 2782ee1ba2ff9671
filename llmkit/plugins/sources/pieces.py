"""A stream of bytes cut into pieces, of which none is held that is longer than allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

RAW = 512
"""How many of its first bytes stay of a record that is set aside."""


class Piece(NamedTuple):
    """A part of a stream.

    offset  of its first byte, in the decompressed stream
    data    its bytes; the first `RAW` of them where it is longer than allowed
    length  how many there are
    """

    offset: int
    data: bytes
    length: int

    @property
    def whole(self) -> bool:
        """Whether it is no longer than allowed, and all here."""
        return len(self.data) == self.length


def whole(blocks: Iterable[bytes], offset: int, limit: int) -> Piece:
    """The stream as one piece."""
    held, length = bytearray(), 0
    for block in blocks:
        length += len(block)
        _hold(held, block, length, limit)
    return _piece(offset, bytes(held), length, limit)


def separated(blocks: Iterable[bytes], offset: int, separator: bytes, limit: int) -> Iterator[Piece]:
    """Pieces that a separator ends, without it; the last may be empty."""
    rest, head, dropped = b"", b"", 0
    for block in blocks:
        *complete, rest = (rest + block).split(separator)
        for data in complete:
            length = dropped + len(data)
            yield _piece(offset, head or data, length, limit)
            offset += length + len(separator)
            head, dropped = b"", 0
        if len(rest) > limit + len(separator):
            # What is too long already is counted and let go, but for an end in which a separator may have begun.
            head = head or rest[:RAW]
            end = len(rest) - len(separator) + 1
            dropped += end
            rest = rest[end:]
    yield _piece(offset, head or rest, dropped + len(rest), limit)


def paragraphs(lines: Iterable[Piece], limit: int) -> Iterator[Piece]:
    """Lines up to a blank one, joined."""
    held, start, length = bytearray(), 0, 0
    for line in lines:
        if line.whole and not line.data.strip():
            yield _piece(start, bytes(held), length, limit)
            held, length = bytearray(), 0
            continue
        start = start if length else line.offset
        data = b"\n" + line.data if length else line.data
        length += line.length + (len(data) - len(line.data))
        _hold(held, data, length, limit)
    yield _piece(start, bytes(held), length, limit)


def _hold(held: bytearray, data: bytes, length: int, limit: int) -> None:
    """Add to what is held, or let go all but its beginning where it has become too long."""
    if length <= limit:
        held += data
        return
    held += data[:RAW]
    del held[RAW:]


def _piece(offset: int, data: bytes, length: int, limit: int) -> Piece:
    return Piece(offset, data if length <= limit else data[: min(RAW, limit)], length)
