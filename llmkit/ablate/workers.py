"""Persistent processes that run cells, and what a study needs to know of whoever runs them. Torch-free: the processes import torch."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol, Self

from llmkit.ablate.cells import CellPlan, device
from llmkit.ablate.devices import devices_each, visible_devices
from llmkit.core.errors import UserError

Unit = tuple[CellPlan, ...]
"""Cells of one arm that are run together."""

PATIENCE_SECONDS = 60.0
"""How long a worker that was asked to stop may take to finish its step and write a checkpoint."""

LAST_WORDS = 400
"""How many characters of what a dead worker wrote last are told."""


class WorkerFailed(Exception):
    """A worker ended before it could run anything, which is no result of a cell."""


@dataclass(frozen=True)
class Report:
    """What an executor tells of a unit.

    done     its cells' files say how they ended
    busy     another process has one of its cells
    died     whoever ran it is gone; `text` says how
    mistake  the user's, in `text`: nothing else will end better
    step     how far it has come, `step` of `of`
    warning  `text`, for a person
    """

    unit: Unit
    kind: Literal["done", "busy", "died", "mistake", "step", "warning"]
    text: str = ""
    step: int = 0
    of: int = 0


class Executor(Protocol):
    """Runs units somewhere: processes here, tasks on other machines."""

    @property
    def free(self) -> int:
        """How many units it would begin at once."""
        ...

    @property
    def workers(self) -> int:
        """How many units it runs at a time."""
        ...

    @property
    def device(self) -> str:
        """Kind of device that cells run on there."""
        ...

    def submit(self, unit: Unit) -> None:
        """Begin a unit. At most `free` of them."""
        ...

    def next(self, seconds: float) -> list[Report]:
        """What is told within so many seconds; returns as soon as there is anything."""
        ...

    def stop(self) -> None:
        """Have all that runs stop with a complete checkpoint, and wait for it."""
        ...


def default_workers(cells: int, processes: int = 1, places: int | None = None) -> int:
    """One a GPU, else one a core, since small models gain little from threads. No more than there are cells.

    processes  of a cell, each of which takes a place
    places     GPUs, or cores where there are none; those of this machine unless given
    """
    return max(1, min(cells, (places or len(visible_devices()) or usable_cores()) // processes))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int, cores: int | None = None) -> int:
    """The cores, or OMP_NUM_THREADS where that is given, shared by so many workers."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, (int(given) if given.isdigit() else cores or usable_cores()) // workers)


class Workers:
    """So many processes on this machine, each begun when there is work for it and kept until the end of the `with`.

    They have sessions of their own, so that a terminal's Ctrl-C reaches them through here alone, and none outlives this process: the
    end of their stdin stops them. Each has GPUs of its own where there are several.

    processes  ranks of a cell, as many as its `parallel` asks for unless given
    ranks      the most that a cell has, by which cores and GPUs are shared
    """

    def __init__(self, count: int, study: Path, catalog: str, *, processes: int | None = None, ranks: int = 1) -> None:
        self.workers, self.study, self.catalog, self.processes = count, study, catalog, processes
        self.device = device()
        self._threads = threads_each(count * ranks)
        self._devices = devices_each(visible_devices(), count, ranks)
        self._selector = selectors.DefaultSelector()
        self._running: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._running:
            worker.kill() if worker.unit else worker.end()
        self._selector.close()

    @property
    def free(self) -> int:
        return self.workers - sum(worker.unit is not None for worker in self._running)

    def submit(self, unit: Unit) -> None:
        worker = next((worker for worker in self._running if worker.unit is None), None) or self._start()
        worker.submit(unit, order_of(unit, self.study, self.catalog, self.processes))

    def next(self, seconds: float) -> list[Report]:
        reports: list[Report] = []
        for key, _ in self._selector.select(seconds):
            worker: _Worker = key.data
            reports += worker.read()
            if worker.ended:
                self._selector.unregister(worker.pipe)
                self._running.remove(worker)
                worker.end()
        return reports

    def stop(self) -> None:
        for worker in self._running:
            worker.ask_to_stop()
        until = time.monotonic() + PATIENCE_SECONDS
        for worker in self._running:
            worker.wait(max(until - time.monotonic(), 0.0))
            worker.unit = None

    def _start(self) -> _Worker:
        taken = {worker.place for worker in self._running}
        place = next(place for place in range(self.workers) if place not in taken)
        worker = _Worker(place, self._threads, self._devices[place])
        self._running.append(worker)
        self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
        return worker


class _Worker:
    """One process, its place among the others, and the unit that it runs."""

    def __init__(self, place: int, threads: int, devices: Sequence[str]) -> None:
        self.place = place
        self.unit: Unit | None = None
        self.ended = False
        self._ready = False
        self._left = b""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llmkit.ablate.worker", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **({"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {})},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self.pipe = self._process.stdin, self._process.stdout

    def submit(self, unit: Unit, order: dict[str, Any]) -> None:
        self.unit = unit
        # A worker that has died meanwhile is told of by the end of its pipe.
        with suppress(BrokenPipeError):
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()

    def read(self) -> list[Report]:
        """What it has written. At the end of its pipe it has died; `WorkerFailed` where it never came to life."""
        found = os.read(self.pipe.fileno(), 1 << 16)
        *lines, self._left = (self._left + found).split(b"\n")
        reports = [report for line in lines if (report := self._report(json.loads(line))) is not None]
        if found:
            return reports
        self.ended = True
        if not self._ready:
            raise WorkerFailed(f"a worker could not start: {self._how_it_died()}")
        died = [Report(self.unit, "died", self._how_it_died())] if self.unit else []
        self.unit = None
        return [*reports, *died]

    def ask_to_stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def end(self) -> None:
        """Let an idle process, or a dead one, go."""
        with suppress(BrokenPipeError):
            self._orders.close()
        self.wait(PATIENCE_SECONDS)
        self.pipe.close()
        self._log.close()

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def _report(self, told: dict[str, Any]) -> Report | None:
        kind, unit = told.pop("is"), self.unit
        self._ready = True
        if unit is None or kind in ("ready", "stopped"):
            return None
        if kind in ("done", "busy", "mistake"):
            self.unit = None
        return Report(unit, kind, **told)

    def _how_it_died(self) -> str:
        code = self._process.wait()
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        cause = "; the system kills a process with it where memory runs out" if code == -signal.SIGKILL else ""
        words = self._last_words()
        return f"its process {how}{cause}" + (f"; it last wrote: {words}" if words else "")

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - LAST_WORDS, 0))
        return self._log.read().decode(errors="replace").strip()


def order_of(unit: Unit, study: Path, catalog: str, processes: int | None) -> dict[str, Any]:
    """A unit as JSON, for whoever runs it."""
    return {"cells": [cell.document() for cell in unit], "study": str(study), "catalog": catalog, "processes": processes}


def check_workers(count: int) -> None:
    """`UserError` where so many workers cannot be."""
    if count < 1:
        raise UserError(f"--workers {count} runs nothing; give at least 1")


def units_of(cells: Sequence[CellPlan], size: int = 1) -> list[Unit]:
    """Cells in their order, as units: up to `size` seeds of an arm that come up first are one."""
    units: dict[tuple[str, int], list[CellPlan]] = {}
    counts: dict[str, int] = {}
    for cell in cells:
        index = counts.get(cell.arm, 0)
        counts[cell.arm] = index + 1
        units.setdefault((cell.arm, index // size), []).append(cell)
    return [tuple(unit) for unit in units.values()]
