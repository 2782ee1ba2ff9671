"""File operations as points at which a process can die.

Every open for writing, write, flush to the disk, rename and removal below a directory is a point. A process dies just before the
operation, and a write after half of it. This is test code: what is watched is Python's own functions, replaced in a child of the harness.
"""

from __future__ import annotations

import builtins
import io
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

NAMED = ("rename", "replace", "mkdir", "rmdir", "unlink", "truncate")


class Point(NamedTuple):
    """The `nth` time, from 1, that an operation is done, such as `write checkpoints/.step-N.part/model.safetensors`."""

    operation: str
    nth: int


class Points:
    """Counts the operations below `root`, in any thread, and kills this process with SIGKILL at the one that is given."""

    def __init__(self, root: Path, fatal: Point | None = None) -> None:
        self.root, self.fatal = str(root.resolve()), fatal
        self.passed: Counter[str] = Counter()

    def watch(self) -> None:
        """From now on, for the rest of this process's life."""
        for name in NAMED:
            setattr(os, name, self._watched(name, getattr(os, name)))
        os.fsync = self._flushing(os.fsync)
        builtins.open = io.open = self._opening(io.open)

    def reached(self, verb: str, path: str) -> bool:
        """Note an operation; whether this is where the process dies."""
        operation = self._operation(verb, path)
        if operation is None:
            return False
        self.passed[operation] += 1
        return self.fatal == (operation, self.passed[operation])

    def _operation(self, verb: str, path: str) -> str | None:
        path = os.path.abspath(path)
        if not path.startswith(self.root):
            return None
        return f"{verb} {re.sub(r'step-[0-9]+', 'step-N', path[len(self.root) :].lstrip('/')) or 'the run'}"

    def _watched(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *rest: Any, **named: Any) -> Any:
            if self.reached(verb, _resolved(path, named.get("dir_fd"))):
                die()
            return real(path, *rest, **named)

        return watched

    def _flushing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def watched(handle: int) -> None:
            if self.reached("flush", os.readlink(f"/proc/self/fd/{handle}")):
                die()
            real(handle)

        return watched

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if isinstance(path, int) or not set(mode) & set("wax"):
                return real(path, mode, *rest, **named)
            name = os.fspath(path)
            if self.reached("open", name):
                die()
            file = real(path, mode, *rest, **named)
            return _Written(file, self, name) if self._operation("", name) is not None else file

        return watched


class _Written:
    """A file that is written, which may end in the middle of a write."""

    def __init__(self, file: Any, points: Points, name: str) -> None:
        self._file, self._points, self._name = file, points, name

    def write(self, content: Any) -> Any:
        if self._points.reached("write", self._name):
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            die()
        return self._file.write(content)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def die() -> None:
    """As the kernel does it where memory runs out: no handler, no cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _resolved(path: Any, directory: int | None) -> str:
    name = os.fspath(path)
    return name if directory is None else os.path.join(os.readlink(f"/proc/self/fd/{directory}"), name)
