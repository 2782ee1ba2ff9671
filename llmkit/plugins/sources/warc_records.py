"""A web archive cut into its records, going on behind whatever is damaged.

FastWARC's own iterator ends at the first record whose length is wrong, and hands out what is left of one that is cut off as if it were
whole. Here a record counts where its length leads to its end; where not, the next one is looked for behind its head.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llmkit.plugins.sources.blocks import BLOCK, Unreadable, blocks_of
from llmkit.plugins.sources.pieces import RAW

BEGINS = b"WARC/"
ENDS = b"\r\n\r\n"
"""What stands behind the head of a record, and behind its body."""
MOST_HEAD = 1 << 16
VERSION = re.compile(rb"WARC/\d\.\d+\r\n")
VERSION_BYTES = 12
LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")
MEMBER_BYTES = 4
"""What a gzip member begins with."""


class Record(NamedTuple):
    """A record.

    place  its first byte, in what was decompressed
    data   its bytes; the first of them where there is a fault
    fault  why it is none
    """

    place: int
    data: bytes
    fault: Unreadable | None = None


class Torn(Unreadable):
    """A gzip member that cannot be decompressed to its end, and where in the file it begins."""

    def __init__(self, begins: int, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.begins = begins


def records_of(path: Path, limit: int) -> Iterator[Record]:
    """The records of an archive, whole and broken ones; none is held that is longer than `limit`. `OSError` where it may not be read."""
    if path.suffix.lower() != ".gz":
        yield from _records(_Tape(blocks_of(path), 0), limit)
        return
    place = 0
    start: int | None = 0
    with path.open("rb") as file:
        while start is not None:
            tape = _Tape(_unzipped(file, start), place)
            yield from _records(tape, limit)
            place = tape.place
            start = _next_member(file, tape.fault.begins + 1) if isinstance(tape.fault, Torn) else None
        if not place and tape.fault is None:
            yield Record(0, b"", Unreadable("is empty"))


class _Tape:
    """Bytes that come in blocks, of which as many are held as are looked at.

    place  of the first that is held
    fault  why there are no more; None where they just end
    """

    def __init__(self, blocks: Iterator[bytes], place: int) -> None:
        self.place = place
        self.held = bytearray()
        self.fault: Unreadable | None = None
        self._blocks = blocks

    def fill(self, size: int) -> bool:
        """Whether so many bytes are held, having read on."""
        while len(self.held) < size:
            try:
                block = next(self._blocks, b"")
            except Unreadable as error:
                self.fault = error
                return False
            if not block:
                return False
            self.held += block
        return True

    def drop(self, size: int) -> None:
        """Let go of the first so many."""
        del self.held[:size]
        self.place += size

    def seek(self, start: int) -> None:
        """Let go of everything before the next head of a record that begins at `start` or behind it."""
        self.drop(min(start, len(self.held)))
        while not (found := VERSION.search(self.held)):
            self.drop(max(len(self.held) - VERSION_BYTES, 0))
            if not self.fill(len(self.held) + 1):
                self.drop(len(self.held))
                return
        self.drop(found.start())


def _records(tape: _Tape, limit: int) -> Iterator[Record]:
    told = False
    while tape.fill(1):
        record = _next(tape, limit)
        told = told or (record.fault is not None and record.fault is tape.fault)
        yield record
    if tape.fault is not None and not told:
        yield Record(tape.place, b"", tape.fault)


def _next(tape: _Tape, limit: int) -> Record:
    """The record at the beginning of the tape, which afterwards begins with the next one."""
    place = tape.place
    body = _body(tape)
    try:
        size = body + _length(tape, body)
        if size > limit:
            raise Unreadable("is longer than max_bytes", f"{size} bytes")
        if not tape.fill(size):
            raise tape.fault or Unreadable("is cut off, or has a wrong Content-Length", f"{len(tape.held)} bytes of {size} are there")
        if not _ends(tape, size):
            raise Unreadable("is cut off, or has a wrong Content-Length", f"it does not end after {size} bytes")
    except Unreadable as fault:
        broken = Record(place, bytes(tape.held[:RAW]), fault)
        tape.seek(max(body, 1))
        return broken
    record = Record(place, bytes(memoryview(tape.held)[:size]))
    tape.drop(size)
    while tape.fill(1) and tape.held[0] in b"\r\n":
        tape.drop(1)
    return record


def _body(tape: _Tape) -> int:
    """Where the body of the record begins; 0 where there is no head."""
    tape.fill(len(BEGINS))
    if not tape.held.startswith(BEGINS):
        return 0
    while (end := tape.held.find(ENDS, 0, MOST_HEAD)) < 0:
        if len(tape.held) >= MOST_HEAD or not tape.fill(len(tape.held) + 1):
            return 0
    return end + len(ENDS)


def _length(tape: _Tape, body: int) -> int:
    if not body:
        raise tape.fault or Unreadable("is no WARC record", "it has no head")
    length = LENGTH.search(tape.held, 0, body)
    if length is None:
        raise Unreadable("is no WARC record", "its head says no Content-Length")
    return int(length[1])


def _ends(tape: _Tape, size: int) -> bool:
    """Whether a record of this size ends where it should: before its mark, the end, or the next record."""
    tape.fill(size + len(ENDS) + len(BEGINS))
    behind = bytes(tape.held[size : size + len(ENDS) + len(BEGINS)])
    return behind.startswith(ENDS) or BEGINS.startswith(behind.lstrip(b"\r\n")[: len(BEGINS)])


def _unzipped(file: BinaryIO, start: int) -> Iterator[bytes]:
    """What is decompressed of the members from this one on; raises `Torn`."""
    file.seek(start)
    data = file.read(BLOCK)
    if not data:
        raise Torn(start, "is empty")
    while data:
        unzip = zlib.decompressobj(wbits=31)
        begins = file.tell() - len(data)
        while not unzip.eof:
            if not (data := data or file.read(BLOCK)):
                raise Torn(begins, "is cut off", "its gzip stream has no end")
            try:
                block = unzip.decompress(data, BLOCK)
            except zlib.error as error:
                raise Torn(begins, "is no gzip, or damaged", str(error)) from error
            data = unzip.unconsumed_tail
            if block:
                yield block
        data = unzip.unused_data.lstrip(b"\0") or file.read(BLOCK)


def _next_member(file: BinaryIO, start: int) -> int | None:
    """Where the next member begins, from here on."""
    file.seek(start)
    held = b""
    while block := file.read(BLOCK):
        held += block
        if found := MEMBER.search(held):
            return file.tell() - len(held) + found.start()
        held = held[1 - MEMBER_BYTES :]
    return None
