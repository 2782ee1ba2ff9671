"""Writing so that a reader sees the old or the new and never a half, and that what is written outlives the power."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmkit.core.errors import UserError
from llmkit.data.cache import FORBIDDEN, FULL, flush

DRAFT = ".part"
"""What is half-written, or half-removed, has a name that begins with a dot and ends so."""


def write_flushed(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a file, flush it to the disk, and return its SHA-256, taken on the way: nothing is read back."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a small file in place of another, which is as it was until this one is complete."""
    draft = draft_of(path)
    write_flushed(draft, [text.encode()])
    draft.replace(path)
    flush(path.parent)


def shorten(path: Path, size: int) -> None:
    """Leave a file its first so many bytes. It has all of them or these, whatever interrupts it, and no second copy is written."""
    if path.stat().st_size > size:
        os.truncate(path, size)
        flush(path)


def copy_whole(source: Path, target: Path, ignore: Collection[str] = ()) -> None:
    """Copy a directory of files over another, which stays untouched where it has the same files already."""
    if _same_files(source, target, ignore):
        return
    draft = draft_of(target)
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, ignore=shutil.ignore_patterns(*ignore))
    for path in (*draft.rglob("*"), draft):
        flush(path)
    take_name(draft, target)


def take_name(draft: Path, target: Path) -> None:
    """Give a complete directory its name; what had it before, gives way."""
    if target.exists():
        remove(target)
    draft.rename(target)
    flush(target.parent)


def remove(directory: Path) -> None:
    """Take a directory away: at once by its name, and then what is in it.

    What a file system keeps a while longer (a file that someone reads over NFS) stays as a draft.
    """
    leaving = draft_of(directory).with_suffix(f".old{DRAFT}")
    shutil.rmtree(leaving, ignore_errors=True)
    directory.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def draft_of(path: Path) -> Path:
    """The name of a file or a directory while it is not complete."""
    return path.with_name(f".{path.name}{DRAFT}")


def is_draft(path: Path) -> bool:
    """Whether this was left by a process that died."""
    return path.name.startswith(".") and path.name.endswith(DRAFT)


@contextmanager
def told(what: str, rest: str = "", otherwise: str = "") -> Iterator[None]:
    """A full disk, or one that may not be written to, becomes a `UserError` that says what to do.

    what       the thing that is written, and its place
    rest       what is not lost
    otherwise  what else a person can do
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = f"{_remedy(error)}, then run the same command again"
        sentences = (f"cannot write {what}: {reason}", rest, remedy + (f", or {otherwise}" if otherwise else ""))
        raise UserError("; ".join(filter(None, sentences))) from error


def _same_files(source: Path, target: Path, ignore: Collection[str]) -> bool:
    """Whether the target has the source's files, byte for byte."""
    names = {path.name for path in source.iterdir()} - set(ignore)
    if not target.is_dir() or {path.name for path in target.iterdir()} != names:
        return False
    return not any(filecmp.cmpfiles(source, target, names, shallow=False)[1:])


def _remedy(error: OSError) -> str:
    if error.errno in FULL:
        return "free some space on its disk"
    if error.errno in FORBIDDEN:
        return "make its directory one that you may write to"
    return "mend that"
