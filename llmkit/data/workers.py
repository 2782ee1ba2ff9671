"""Tasks of a stage, run one after another or in several processes, and never twice.

A task is done where its account lies, so that a stage which was killed goes on with those that are left, in any number of processes.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

SHARED_BYTES = 48 << 20
"""Bytes of text from which several processes are worth their start."""

SHARED_SECONDS = 3.0
"""And after how long, where nobody knows how much there is."""

LOOK_SECONDS = 0.5
"""How often a process looks whether the one that started it is still there, and how often progress is looked for."""


@dataclass(frozen=True)
class Task:
    """A piece of a stage.

    index  its number; its account is `<index>.json`
    size   bytes of text, as far as known; 0 where nobody knows
    """

    index: int
    size: int = 0

    @property
    def name(self) -> str:
        return f"{self.index:05d}"

    def account(self, directory: Path) -> Path:
        """Where its account lies once it is done."""
        return directory / f"{self.name}.json"


class Job(Protocol):
    """What is done with each task of a stage. It travels to other processes, so it holds no open file."""

    def run(self, directory: Path, task: Task) -> None:
        """Leave the results of a task in the directory, its account last."""
        ...


Tell = Callable[[int, int], None]
"""Called as (tasks done, tasks in all)."""


class WorkerDied(RuntimeError):
    """A process that worked on a stage is gone without an error of its own."""


@dataclass(frozen=True)
class Workers:
    """How many processes of this machine share the tasks; as many as there are cores, where there is enough to do, unless given."""

    count: int | None = None

    def run(self, job: Job, directory: Path, tasks: Sequence[Task], tell: Tell) -> None:
        """Do every task that is not done."""
        left = [task for task in tasks if not task.account(directory).exists()]
        tell(len(tasks) - len(left), len(tasks))
        if self.count is None and sum(task.size for task in left) < SHARED_BYTES:
            left = _alone_for_a_while(job, directory, left, lambda done: tell(len(tasks) - done, len(tasks)))
        count = min(usable_cores() if self.count is None else self.count, len(left))
        if count > 1:
            with watched(directory, tasks, tell):
                _together(job, directory, left, count)
            return
        for task in left:
            job.run(directory, task)
            tell(_done(directory, tasks), len(tasks))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alone_for_a_while(job: Job, directory: Path, tasks: Sequence[Task], tell_left: Callable[[int], None]) -> list[Task]:
    """Do tasks until it has taken long enough that other processes are worth their start; what is left."""
    begun, left = time.monotonic(), list(tasks)
    while left and (time.monotonic() - begun < SHARED_SECONDS or len(left) == 1):
        job.run(directory, left.pop(0))
        tell_left(len(left))
    return left


def _together(job: Job, directory: Path, tasks: Sequence[Task], count: int) -> None:
    """Share the tasks among processes through `datasets`, a row of a table each; whoever is free takes the next, the largest first.

    The processes are copies of this one, so that a program that calls this needs no guard around its own start.
    """
    import datasets

    claims = directory / ".claims.part"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir()
    ordered = sorted(tasks, key=lambda task: (-task.size, task.index))
    lanes = datasets.Dataset.from_dict({"lane": list(range(count))})
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with _children_cared_for():
            lanes.map(
                _Lane(job, directory, tuple(ordered), claims),
                num_proc=count,
                keep_in_memory=True,
                load_from_cache_file=False,
                new_fingerprint="tasks",
            )
    except BaseException as error:
        raise _meant(error) from None
    finally:
        if not bars:
            datasets.enable_progress_bars()
        shutil.rmtree(claims, ignore_errors=True)


def _meant(error: BaseException) -> BaseException:
    """What went wrong, where `datasets` says something else: it gives up waiting for its processes when it is interrupted itself."""
    if isinstance(error, RuntimeError) and "abruptly died" in str(error):
        return WorkerDied(
            "a process that prepared data was killed, as a rule because memory ran out; what is finished is kept: run the same command "
            "again, with fewer --workers where memory was short"
        )
    earlier = error.__context__
    while earlier is not None and not isinstance(earlier, KeyboardInterrupt):
        earlier = earlier.__context__
    return earlier or error


@dataclass(frozen=True)
class _Lane:
    """What one process does: it takes tasks that nobody has taken, until there are none."""

    job: Job
    directory: Path
    tasks: tuple[Task, ...]
    claims: Path

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        for task in self._free():
            self.job.run(self.directory, task)
        return row

    def _free(self) -> Iterator[Task]:
        for task in self.tasks:
            try:
                (self.claims / task.name).touch(exist_ok=False)
            except FileExistsError:
                continue
            yield task


_parents: list[int] = []
"""This process, while what it forks are workers."""


@contextmanager
def _children_cared_for() -> Iterator[None]:
    """Every process that is forked meanwhile, the one that carries messages between the others too, is `_born` as a worker."""
    _watch_forks()
    _parents.append(os.getpid())
    try:
        yield
    finally:
        _parents.pop()


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_born)


def _born() -> None:
    """Be a worker: Ctrl-C is the parent's affair, it ends this process by SIGTERM, and this one does not outlive it."""
    if not _parents or os.getppid() != _parents[-1]:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


@contextmanager
def watched(directory: Path, tasks: Sequence[Task], tell: Tell) -> Iterator[None]:
    """Progress, seen by the accounts that appear."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            tell(_done(directory, tasks), len(tasks))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    tell(len(tasks), len(tasks))


def _done(directory: Path, tasks: Iterable[Task]) -> int:
    return sum(task.account(directory).exists() for task in tasks)
