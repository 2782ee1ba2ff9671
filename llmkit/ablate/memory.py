"""How much memory a cell took at its peak, in a process that has run others before it."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Begins when it is made.

    On CUDA it is what was allocated on the device. On the CPU it is by how much the process grew: the most that was resident since
    (Linux can be told to forget the most before), less what was resident when it began, after memory that earlier cells had freed
    went back to the system. None where the system does not tell.
    """

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        self._before = _resident() if _forget_peak() else None

    def bytes(self) -> int | None:
        """The peak so far."""
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        peak = _status("VmHWM")
        return None if self._before is None or peak is None else max(peak - self._before, 0)


def _forget_peak() -> bool:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _resident() -> int | None:
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A number of bytes that Linux tells of this process."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
