"""Files of rows, `<name>.jsonl`: a JSON object a line, which is in the file before the next is begun.

Steps ascend in a file, and several rows may tell of one. So a step is found by bisection: the file of a month is cut, or asked about a
step, by reading a few blocks of it. A killed process may leave half a line at the end, and a machine that lost its power a piece of the
file that was never written: what is no whole row is passed over.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

BLOCK = 1 << 16
"""So many bytes are read through, and not halved again."""


class RowFiles:
    """The files of rows in a directory, each opened with its first row and held open: opening one takes longer than a row does.

    They are not buffered: a row is one write at the end of the file, and what is killed between two steps has told all it did.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, FileIO] = {}

    def path(self, name: str) -> Path:
        """Where the rows of this name are."""
        return self.root / f"{name}.jsonl"

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row. `OSError` where the disk does not let it."""
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = self.path(name).open("ab", buffering=0)
        left = memoryview((json.dumps(row) + "\n").encode())
        while left:
            left = left[file.write(left) :]

    def close(self) -> None:
        """Close all; the next row opens its file again: after another has taken its place."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class Row(NamedTuple):
    """A whole row, and where in its file the next one may begin."""

    told: dict[str, Any]
    end: int


def whole_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a file of rows and what they say; none where there is no file."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else ()
    return [(line, row) for line in lines if (row := _whole(line)) is not None]


def rows_of(path: Path, step: int) -> list[dict[str, Any]]:
    """What a file tells of a step; nothing where there is no file."""
    if not path.exists():
        return []
    first, last = end_of(path, step - 1), end_of(path, step)
    with path.open("rb") as file:
        return [row.told for row in _rows_from(file, first, last)]


def steps_told(path: Path) -> tuple[int, int] | None:
    """The first and the last step that a file tells of; None where there is neither."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        first = next(_rows_from(file, 0, size), None)
        if first is None:
            return None
        back = BLOCK
        while not (last := deque(_rows_from(file, max(size - back, 0), size), maxlen=1)):
            back *= 2
        return first.told["step"], last[0].told["step"]


def end_of(path: Path, step: int) -> int:
    """At which byte of a file the rows of this step end; or of the last one before it, where it has none."""
    with path.open("rb") as file:
        begin, end = 0, file.seek(0, 2)
        # Rows that begin before `begin` are of this step or earlier, those that begin at `end` or after it are later.
        while end - begin > BLOCK:
            middle = (begin + end) // 2
            row = next(_rows_from(file, middle, end), None)
            if row is None or row.told["step"] > step:
                end = middle
            else:
                begin = row.end
        return max((row.end for row in _rows_from(file, begin, end) if row.told["step"] <= step), default=begin)


def end_of_first(path: Path, number: int) -> int:
    """At which byte of a file its first so many rows end; all of them, where there are no more."""
    with path.open("rb") as file:
        rows = islice(_rows_from(file, 0, file.seek(0, 2)), number)
        return max((row.end for row in rows), default=0)


def _rows_from(file: BinaryIO, start: int, end: int) -> Iterator[Row]:
    """The whole rows that begin in these bytes of a file."""
    file.seek(max(start - 1, 0))
    if start:
        # The rest of the row in whose middle this is: nothing but its end, where one ends here.
        file.readline()
    while (at := file.tell()) < end:
        line = file.readline()
        told = _whole(line)
        if told is not None:
            yield Row(told, at + len(line))


def _whole(line: str | bytes) -> dict[str, Any] | None:
    """What a line says; None where it is no whole row."""
    if line[-1:] not in ("\n", b"\n"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "step" in told else None
