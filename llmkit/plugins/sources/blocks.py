"""The bytes of a file in blocks, decompressed where its name says that they are compressed."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
COMPRESSED = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
"""What a name ends in, and how such a file is compressed."""


class Unreadable(Exception):
    """A record, or the rest of a file, that is no document, whatever is tried: with the reason and the detail of its `Broken`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def blocks_of(path: Path) -> Iterator[bytes]:
    """Its bytes, a megabyte or less at a time, none of them empty. A compressed file may be several, one after another.

    Raises `Unreadable` after the last bytes that there are, and where there is none; `OSError` where the file may not be read.
    """
    kind = COMPRESSED.get(path.suffix.lower())
    nothing = True
    try:
        with _opened(path, kind) as file:
            # read1 reads once from what lies below, so that what came before the damage is not lost with it.
            while block := file.read1(BLOCK if kind != "zstd" else BLOCK >> 4):
                nothing = False
                yield block
    except EOFError as error:
        raise Unreadable("is cut off", f"its {kind} stream has no end") from error
    except (zlib.error, lzma.LZMAError) as error:
        raise Unreadable(f"is no {kind}, or damaged", str(error)) from error
    except OSError as error:
        # A codec raises an OSError of its own, which is none of the system's and has no number.
        if error.errno is not None:
            raise
        cut = "truncated" in str(error).lower()
        raise Unreadable("is cut off" if cut else f"is no {kind}, or damaged", str(error)) from error
    if nothing:
        raise Unreadable("is empty")


def utf8_blocks_of(path: Path) -> tuple[int, Iterator[bytes]]:
    """The same of a file that should be UTF-8, without its byte order mark, and how long that was."""
    blocks = blocks_of(path)
    first = b""
    while len(first) < len(codecs.BOM_UTF8) and (block := next(blocks, b"")):
        first += block
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16, not UTF-8", "its byte order mark says so; convert it, such as with iconv")
    start = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
    return start, chain([first[start:]], blocks)


def _opened(path: Path, kind: str | None) -> Any:
    opener: dict[str | None, Callable[[Path, str], Any]] = {
        "gzip": gzip.open,
        "xz": lzma.open,
        "bzip2": bz2.open,
        "zstd": _zstd,
        None: open,
    }
    return opener[kind](path, "rb")


def _zstd(path: Path, _: str) -> Any:
    import pyarrow

    # Opened as any file first: a missing one is told in the words of the system.
    with path.open("rb"):
        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
