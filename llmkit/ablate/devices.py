"""Which GPUs of a machine a worker has. Torch-free: a process sees the GPUs that its environment named before it imported torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from llmkit.ablate.cells import device
from llmkit.core.errors import UserError

GPUS = Path("/proc/driver/nvidia/gpus")
"""Has an entry for each GPU that the driver shows here."""


def visible_devices() -> tuple[str, ...]:
    """The GPUs that processes of this machine may use, as CUDA_VISIBLE_DEVICES names them; found without importing torch."""
    if device() != "cuda":
        return ()
    return devices_named(os.environ.get("CUDA_VISIBLE_DEVICES"), max(1, len(list(GPUS.glob("*")))))


def devices_named(given: str | None, found: int) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES gives, up to the first that it hides; all that were found where it is not set."""
    if given is None:
        return tuple(map(str, range(found)))
    return tuple(takewhile(lambda name: name not in ("", "-1"), map(str.strip, given.split(","))))


def devices_each(devices: Sequence[str], workers: int, processes: int = 1) -> list[tuple[str, ...]]:
    """The GPUs of each worker: one for each process of a cell, its own as long as they last, then shared in turn.

    `UserError` where a cell has more processes than there are GPUs: ranks cannot meet on one.
    """
    if not devices:
        return [()] * workers
    if processes > len(devices):
        raise UserError(
            f"a cell takes {processes} processes, and there are GPUs for {len(devices)} of them; lower --processes or `parallel`"
        )
    groups = [tuple(devices[first : first + processes]) for first in range(0, len(devices) - processes + 1, processes)]
    return [groups[index % len(groups)] for index in range(workers)]
