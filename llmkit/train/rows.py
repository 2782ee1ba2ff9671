"""Files of rows, `<name>.jsonl`: a JSON object a line, which is in the file before the next is begun."""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path
from typing import Any


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


def whole_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a file of rows and what they say; none where there is no file.

    A killed process may leave half a line at the end, and a machine that lost its power a piece of the file that was never written.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else ()
    return [(line, row) for line in lines if line.endswith("\n") and isinstance(row := _parsed(line), dict) and "step" in row]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
