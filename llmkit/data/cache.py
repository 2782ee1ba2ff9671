"""A directory of prepared things by the hash of what they were made from: complete or absent, under a file lock."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from llmkit.core.errors import UserError

SEAL = "seal.json"
"""Name, size, modification time and SHA-256 of every file of an entry. It is written last."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Cache:
    """Entries `<root>/<shelf>/<key>/`. Processes that want the same entry wait for the first, then reuse what it made."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    def entry(self, shelf: str, key: str, make: Callable[[Path], None], *, resumed: bool = False) -> Path:
        """The directory of an entry; where it is absent or damaged, `make` fills an empty one that then takes its name.

        resumed  what was made stays where `make` is stopped, and `make` finds it when it is called again
        """
        place = self.root / shelf / key
        with self._lock(f"{shelf}-{key}"):
            damage = _damage(place)
            if damage is None:
                return place
            if place.exists():
                warnings.warn(f"cache entry {str(place)!r} is damaged ({damage}); it is made again", stacklevel=2)
            self._make(place, make, resumed)
        return place

    @contextmanager
    def told(self) -> Iterator[None]:
        """A disk that is full, and a cache that may not be written to, become a `UserError`; what is finished is kept."""
        try:
            yield
        except OSError as error:
            if error.errno not in (*FULL, *FORBIDDEN) or not self._has(error):
                raise
            remedy = "free some space on its disk" if error.errno in FULL else "make it one that you may write to"
            raise UserError(
                f"data.cache {str(self.root)!r} cannot be written: {error.strerror}; what is finished is kept: {remedy}, then run the same "
                "command again, or set data.cache to another directory"
            ) from error

    def _has(self, error: OSError) -> bool:
        """Whether the failure is of a file in here, as far as it says of which."""
        return error.filename is None or Path(str(error.filename)).is_relative_to(self.root)

    def _lock(self, name: str) -> FileLock:
        locks = self.root / "locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"data.cache {str(self.root)!r} cannot be written: {error.strerror}; set data.cache to another directory"
            ) from error
        return FileLock(locks / f"{name}.lock")

    def _make(self, place: Path, make: Callable[[Path], None], resumed: bool) -> None:
        # The lock is held, so whatever lies at this name was left by a process that died.
        draft = place.with_name(f"{place.name}.part")
        if not resumed:
            shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, exist_ok=True)
        try:
            make(draft)
            _seal(draft)
        except BaseException:
            if not resumed:
                shutil.rmtree(draft, ignore_errors=True)
            raise
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
        flush(place.parent)


def key_of(facts: Any) -> str:
    """The key of what was made from these facts, which JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in little memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(directory: Path) -> None:
    files = {}
    seal = directory / SEAL
    seal.unlink(missing_ok=True)
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        flush(path)
        status = path.stat()
        name = path.relative_to(directory).as_posix()
        files[name] = {"bytes": status.st_size, "changed": status.st_mtime_ns, "sha256": checksum(path)}
    seal.write_text(json.dumps(files, indent=2) + "\n", encoding="utf-8")
    flush(seal)
    flush(directory)


def _damage(place: Path) -> str | None:
    """Why an entry cannot be used; None where it can. A file untouched since it was sealed is not read through."""
    try:
        files = json.loads((place / SEAL).read_text(encoding="utf-8"))
        return next((f"{name} {reason}" for name, record in files.items() if (reason := _file_damage(place / name, record))), None)
    except OSError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, AttributeError, KeyError):
        return f"{SEAL} is not readable"


def _file_damage(path: Path, record: dict[str, Any]) -> str | None:
    status = path.stat()
    if status.st_size != record["bytes"]:
        return f"has {status.st_size} bytes instead of {record['bytes']}"
    if status.st_mtime_ns != record["changed"] and checksum(path) != record["sha256"]:
        return "was modified"
    return None


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a directory, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
