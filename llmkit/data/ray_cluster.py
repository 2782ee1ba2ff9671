"""The Ray cluster that RAY_ADDRESS names (`auto` for the one of this machine), or a Ray of this machine alone."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from llmkit.core.errors import UserError

OBJECT_STORE_BYTES = 80 << 20
"""Of a Ray that is started here; results do not pass through it."""

SHORT = Path("/tmp")
"""Where the files of a Ray lie that is started here, unless RAY_TMPDIR says otherwise."""

PLACES = "llmkit-ray-"
"""How their directories' names begin."""

ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer at all."""


class Cluster:
    """A connection, from `open` to `close`.

    cpus  what a Ray that is started here offers
    """

    def __init__(self, cpus: int) -> None:
        self.ray, self._cpus = installed_ray(), cpus
        self._place: _Place | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is a Ray of this machine alone, which was started here."""
        return self._place is not None

    def open(self) -> None:
        """Connect, or start one. `UserError` where the cluster does not answer."""
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        with _handlers_kept():
            if os.environ.get("RAY_ADDRESS", "local") != "local":
                _check_address(os.environ["RAY_ADDRESS"])
                try:
                    self.ray.init(**quiet)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    raise UserError(_unanswered(error)) from None
                return
            self._place = _Place()
            own = {"num_cpus": self._cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            self.ray.init(address="local", _temp_dir=str(self._place.path), **own, **quiet)

    def close(self) -> None:
        """Whatever still runs ends with the connection."""
        self.ray.shutdown()
        if self._place is not None:
            self._place.remove()


class _Place:
    """A directory for the files of a Ray that is started here, locked while it is used: one whose process was killed goes with the next.

    Not where TMPDIR says: the paths of Ray's sockets may not be long.
    """

    def __init__(self) -> None:
        parent = Path(os.environ.get("RAY_TMPDIR") or (SHORT if SHORT.is_dir() else tempfile.gettempdir()))
        for left in parent.glob(f"{PLACES}*.lock"):
            with suppress(Timeout, OSError), FileLock(left, timeout=0):
                _clear(left)
        self.path = parent / f"{PLACES}{uuid4().hex[:8]}"
        self._lock = FileLock(_lock_of(self.path))
        self._lock.acquire()
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Leave nothing."""
        _clear(_lock_of(self.path))
        self._lock.release()


def installed_ray() -> Any:
    """The package. `UserError` where it is not installed."""
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError(f"--on ray needs Ray, which cannot be imported ({error}); pip install 'llmkit[ray]', or leave --on out") from None


def installed_ray_data() -> Any:
    """Ray Data, which says nothing of its own. `UserError` where it is not installed."""
    installed_ray()
    try:
        data = import_module("ray.data")
    except ImportError as error:
        raise UserError(f"--on ray needs Ray Data, which cannot be imported ({error}); pip install 'llmkit[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    return data


def last_line(error: Exception) -> str:
    """What Ray's error says of the exception itself: the lines before it are of machinery."""
    with suppress(IndexError):
        return str(error).strip().splitlines()[-1]
    return type(error).__name__


def _check_address(address: str) -> None:
    """`UserError` where nobody listens: Ray itself asks for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise UserError(_unanswered(error)) from None


def _unanswered(error: Exception) -> str:
    return (
        f"no Ray cluster answers at RAY_ADDRESS {os.environ['RAY_ADDRESS']!r}: {error}; start one (`ray start --head`), or unset "
        "RAY_ADDRESS for a Ray of this machine alone"
    )


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _clear(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray's start has SIGTERM end the process in its own way; its callers have it stop in theirs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
