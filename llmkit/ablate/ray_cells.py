"""Cells as tasks of a Ray cluster: one unit a task, results as files in the study's directory. Torch-free: the tasks import torch.

Nothing but the wish to run goes to a task, and nothing but how it went comes back: a cell's identity, its lock, its checkpoints and its
ending are what they are on one machine. So every machine of the cluster has to see the study's directory at the same path, which a task
finds out by a file that is there as long as the study runs; and a study may change between Ray and this machine with every call.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from llmkit.ablate.workers import PATIENCE_SECONDS, Report, Unit, default_workers, order_of, threads_each, usable_cores
from llmkit.core.errors import UserError
from llmkit.data.durable import told
from llmkit.data.ray_cluster import Cluster, last_line
from llmkit.train.rows import steps_told

SAME = ("llmkit", "torch")
"""Distributions whose version is part of what a cell is: every machine has to have the same."""

TELL_SECONDS = 1.0
"""How often the files of cells that run are asked how far they are."""


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster offers to tasks."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Share:
    """How many cells run at once, and what Ray is to keep for each: all of it on one machine."""

    workers: int
    threads: int
    cpus: int
    gpus: int


def share(machines: Sequence[Machine], cells: int, workers: int | None = None, ranks: int = 1) -> Share:
    """The cluster, shared by cells of so many ranks: a GPU a rank where there are any, and the CPUs of the machines that have them.

    A task fits every such machine that has room for its ranks. `UserError` where none has.
    """
    on_gpus = any(machine.gpus for machine in machines)
    places = [machine.gpus if on_gpus else machine.cpus for machine in machines]
    able = [(machine, count) for machine, count in zip(machines, places, strict=True) if count >= ranks]
    if not able:
        kind, most = "GPUs" if on_gpus else "CPUs", max(places, default=0)
        raise UserError(f"a cell takes {ranks} processes on one machine, and no machine of the Ray cluster has more than {most} {kind}")
    count = workers or default_workers(cells, ranks, sum(count // ranks * ranks for _, count in able))
    shared = threads_each(count * ranks, sum(machine.cpus for machine, _ in able))
    threads = max(1, min(shared, *(machine.cpus // ranks for machine, _ in able)))
    return Share(count, threads, threads * ranks, ranks if on_gpus else 0)


class RayCells:
    """The cluster that RAY_ADDRESS names (`auto` for the one of this machine), or a Ray of this machine alone, until the end of the `with`.

    cells      how many there are to run at once, at most
    workers    how many run at once; as many as there are GPUs, or else CPUs, unless given
    processes  ranks of a cell, as many as its `parallel` asks for unless given
    ranks      the most that a cell has
    """

    def __init__(
        self,
        study: Path,
        catalog: str,
        cells: int,
        say: Callable[[str], None],
        *,
        workers: int | None = None,
        processes: int | None = None,
        ranks: int = 1,
    ) -> None:
        self.study, self.catalog, self.processes = study.absolute(), catalog, processes
        self._cells, self._say, self._asked, self._ranks = cells, say, workers, ranks
        self._sign = self.study / f".ray-{uuid4().hex[:12]}"
        self._running: dict[Any, Unit] = {}
        self._told = 0.0

    def __enter__(self) -> Self:
        self._cluster = Cluster(usable_cores())
        self._ray = self._cluster.ray
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @property
    def workers(self) -> int:
        return self._share.workers

    @property
    def device(self) -> str:
        return "cuda" if self._share.gpus else "cpu"

    @property
    def free(self) -> int:
        return max(0, self.workers - len(self._running))

    def submit(self, unit: Unit) -> None:
        order = order_of(unit, self.study, self.catalog, self.processes) | {
            "sign": self._sign.name,
            "threads": self._share.threads,
            "versions": _versions(),
        }
        self._running[self._task.remote(order)] = unit

    def next(self, seconds: float) -> list[Report]:
        if not self._running:
            time.sleep(seconds)
            return []
        ended, _ = self._ray.wait(list(self._running), timeout=seconds)
        return [report for task in ended for report in self._reports(task, self._running.pop(task))] or self._steps()

    def stop(self) -> None:
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE_SECONDS)
        self._running.clear()

    def _begin(self) -> None:
        with told(f"the study {str(self.study)!r}", otherwise="choose another directory with --out"):
            self.study.mkdir(parents=True, exist_ok=True)
            self._sign.touch()
        self._cluster.open()
        machines = _machines(self._ray.nodes())
        self._share = share(machines, self._cells, self._asked, self._ranks)
        keep = {"num_cpus": self._share.cpus, "num_gpus": self._share.gpus}
        self._task = self._ray.remote(max_retries=0, **keep)(run_unit)
        whose = "of this machine (RAY_ADDRESS names no cluster)" if self._cluster.is_own else f"of {os.environ['RAY_ADDRESS']}"
        self._say(
            f"Ray {whose}: {_counted(len(machines), 'machine')}, {_counted(sum(one.cpus for one in machines), 'CPU')}, "
            f"{_counted(sum(one.gpus for one in machines), 'GPU')}; {_counted(self.workers, 'cell')} at once, "
            f"{_counted(self._share.threads, 'thread')} a process; results are files in {str(self.study)!r}, which every machine has to see"
        )

    def _end(self) -> None:
        """Whatever still runs ends with the connection: its cells are left to be gone on with."""
        self._cluster.close()
        self._sign.unlink(missing_ok=True)

    def _reports(self, task: Any, unit: Unit) -> list[Report]:
        """What a task that has ended tells. Cells leave their own errors in their files: one that comes here is of the machine."""
        errors = self._ray.exceptions
        try:
            lines = self._ray.get(task)
        except errors.RayTaskError as error:
            return [Report(unit, "mistake", f"a machine of the Ray cluster cannot run cells: {last_line(error)}")]
        except errors.RayError as error:
            return [Report(unit, "died", f"its Ray task died: {' '.join(str(error).split())}")]
        return [Report(unit, line.pop("is"), **line) for line in lines]

    def _steps(self) -> list[Report]:
        """How far the cells that run have come, by their files."""
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return []
        self._told = now
        reports = []
        for unit in self._running.values():
            steps = steps_told(self.study / unit[0].directory / "metrics.jsonl")
            reports.append(Report(unit, "step", step=steps[1] if steps else 0, of=unit[0].spec.steps))
        return reports


def run_unit(order: dict[str, Any]) -> list[dict[str, Any]]:
    """The task: run a unit's cells, and tell at the end what a worker of this machine would have told."""
    refused = _refusal(order)
    if refused is not None:
        return [{"is": "mistake", "text": refused}]
    os.environ["OMP_NUM_THREADS"] = str(order["threads"])
    import torch

    from llmkit.ablate.worker import obey

    torch.set_num_threads(order["threads"])
    lines: list[dict[str, Any]] = []

    def tell(line: dict[str, Any]) -> None:
        if line["is"] == "warning":
            lines.append(line)

    lines.append(obey(order, tell))
    return lines


def _refusal(order: dict[str, Any]) -> str | None:
    """Why this machine would run something else than what the study asks for, or where nobody finds it."""
    here = socket.gethostname()
    if not (Path(order["study"]) / order["sign"]).exists():
        return (
            f"{here}, a machine of the Ray cluster, does not see {order['study']!r} as it is where the study was started: results are "
            "files there; choose a directory with --out that all machines share"
        )
    other = [f"{name} {version}" for name, version in _versions().items() if version != order["versions"][name]]
    if other:
        planned = ", ".join(f"{name} {version}" for name, version in order["versions"].items())
        return f"{here}, a machine of the Ray cluster, has {', '.join(other)}, and the study was started with {planned}; install the same"
    return None


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in SAME}


def _machines(nodes: Sequence[dict[str, Any]]) -> list[Machine]:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return [Machine(int(offered.get("CPU", 0)), int(offered.get("GPU", 0))) for offered in alive]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
