"""One process at a time in a run's directory: two would write over each other's checkpoints and rows.

The lock is the system's own (`flock`), on `.lock` in the directory, and goes with the process that has it, however that ends: a file
left behind by one that was killed stands in nobody's way. The file's content, who has it, is for the message alone.

Over a network it holds between machines where the file system shares its locks (NFS does, unless mounted `nolock` or `local_lock`;
Lustre where mounted `flock`). Where it has none at all, that is said, and nothing hinders the second.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError

try:
    import fcntl
except ImportError:  # only Unix has it
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"

PATIENCE_SECONDS = 1.0
"""A process that is ending has its run a moment longer."""

TAKEN = (errno.EAGAIN, errno.EACCES)
"""What the system answers where another has the lock. All else means that the file system has none."""


@contextmanager
def alone(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Have the run in this directory for oneself until the end of the `with`. Of a launch, the first rank alone calls it.

    `UserError` that names who has it, where another process does. Where nothing can be written there is nothing to be kept from
    others, and whoever writes says so. Nothing is left of a directory that was made for the lock, if nothing else came into it.
    """
    made = [place for place in (root, *root.parents) if not place.exists()]
    handle = _taken(root, say)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                (root / LOCK).unlink()
            os.close(handle)
        with suppress(OSError):
            for place in made:
                place.rmdir()


def _taken(root: Path, say: Callable[[str], None]) -> int | None:
    """The open file that is locked; None where there can be none."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (handle := _opened(root)) is not None:
        holder = _holder(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in TAKEN:
                say(
                    f"warning: the file system of {str(root)!r} keeps no locks ({error.strerror}): see to it that nothing else trains there"
                )
                return None
            if time.monotonic() > until:
                raise UserError(_refusal(root, holder)) from None
            time.sleep(0.05)
            continue
        # Who had it may have removed the file since it was opened: then this is the lock of nothing.
        if os.fstat(handle).st_nlink:
            _warn_of(holder, say)
            _sign(handle)
            return handle
        os.close(handle)
    return None


def _opened(root: Path) -> int | None:
    if fcntl is None:
        return None
    while True:
        try:
            root.mkdir(parents=True, exist_ok=True)
            return os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            # Who had it takes away the directory that it made.
            continue
        except OSError:
            return None


def _sign(handle: int) -> None:
    """Say who has it, for those who come later. A full disk hinders nobody from having it."""
    who = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, (json.dumps(who) + "\n").encode(), 0)


def _holder(handle: int) -> dict[str, Any]:
    """Who has it, or had it last and could not remove the file; empty where nobody signed."""
    try:
        known = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _refusal(root: Path, holder: dict[str, Any]) -> str:
    if not holder:
        return f"another process trains in {str(root)!r}; wait for it, end it, or choose another directory with --out"
    process, host = holder.get("process"), holder.get("host")
    end = f"end it (`kill {process}` there leaves a complete checkpoint)"
    return (
        f"another process trains in {str(root)!r}: process {process} on {host}, since {holder.get('since')}; "
        f"wait for it, {end}, or choose another directory with --out"
    )


def _warn_of(holder: dict[str, Any], say: Callable[[str], None]) -> None:
    if holder.get("host") not in (None, socket.gethostname()):
        say(
            f"warning: process {holder.get('process')} on {holder['host']}, which had this run last, did not end by itself; "
            "if it still runs, end it: not every network file system shares its locks"
        )
