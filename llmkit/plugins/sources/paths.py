"""Paths and globs to files, without a loop and without a silent gap."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from llmkit.core.errors import UserError

MAGIC = frozenset("*?[")


def matching(given: Iterable[str], source: str, pattern: str) -> list[Path]:
    """The files that these paths and globs name, each once, in the order given; those of one glob are sorted.

    source   what the messages call who asks: `text`
    pattern  what its files are called, for whoever gave a directory: `*.txt`

    Globs are as a shell's: `**` is any number of folders, and a name that begins with a dot is matched by one that does. Links are
    followed, a folder that holds itself is entered once. Raises `UserError` where nothing matches, and for what may not be looked at.
    """
    files: dict[str, Path] = {}
    for one in given:
        for path in _matches(one, source, pattern):
            files.setdefault(os.path.realpath(path), path)
    return list(files.values())


def _matches(given: str, source: str, pattern: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        raise UserError(
            f"{source} source: {given!r} is a directory; write {str(path / '**' / pattern)!r}, or another pattern, for the files in it"
        )
    if path.is_file():
        return [path]
    if path.is_symlink():
        raise UserError(f"{source} source: {given!r} is a link to {os.readlink(path)!r}, which leads nowhere")
    base, wanted = _split(path)
    found = sorted(_below(base, (), wanted, frozenset(), source)) if base.is_dir() else []
    if not found:
        raise UserError(f"{source} source: no file matches {given!r}, looked up from {str(Path.cwd())!r}")
    return found


def _split(path: Path) -> tuple[Path, tuple[str, ...]]:
    """What has no pattern in it, and the patterns of what follows."""
    parts = path.parts
    first = next((index for index, part in enumerate(parts) if MAGIC & set(part)), len(parts))
    return Path(*parts[:first]), parts[first:]


def _below(base: Path, below: tuple[str, ...], wanted: Sequence[str], above: frozenset[str], source: str) -> Iterator[Path]:
    """The files under `base` whose names below it match; `above` are the folders that we are in, to see a loop of links."""
    folder = base.joinpath(*below)
    real = os.path.realpath(folder)
    deep = "**" in wanted
    if real in above or (not deep and len(below) >= len(wanted)):
        return
    for entry in _entries(folder, source):
        names = (*below, entry.name)
        if entry.is_dir() and _begins(names, wanted):
            yield from _below(base, names, wanted, above | {real}, source)
        elif entry.is_file() and _fits(names, wanted):
            yield folder / entry.name
        elif entry.is_symlink() and not entry.is_dir() and _fits(names, wanted):
            raise UserError(f"{source} source: {str(folder / entry.name)!r} is a link to {os.readlink(entry.path)!r}, which leads nowhere")


def _entries(folder: Path, source: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{source} source: cannot look into {str(folder)!r}: {error.strerror}") from error


def _fits(names: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not names
    if wanted[0] == "**":
        return _fits(names, wanted[1:]) or (bool(names) and not names[0].startswith(".") and _fits(names[1:], wanted))
    return bool(names) and _is(names[0], wanted[0]) and _fits(names[1:], wanted[1:])


def _begins(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether something below a folder of these names may fit: what cannot is never entered."""
    if not names:
        return True
    if not wanted:
        return False
    if wanted[0] == "**":
        return _begins(names, wanted[1:]) or (not names[0].startswith(".") and _begins(names[1:], wanted))
    return _is(names[0], wanted[0]) and _begins(names[1:], wanted[1:])


def _is(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))
