"""Giving cells to an executor until each has ended, whoever runs it, and whatever dies on the way. Torch-free."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llmkit.ablate.cells import ENDING, CellPlan, order, state
from llmkit.ablate.results import Cell
from llmkit.ablate.workers import Executor, Report, Unit, units_of
from llmkit.core.errors import UserError
from llmkit.data.durable import write_whole
from llmkit.train.signals import Interrupted, StopWish

LOOK_SECONDS = 0.2
"""How often signals, and cells that other processes run, are looked at."""

ATTEMPTS = 2
"""How often a cell is begun whose process dies: once may be the machine's doing, twice is its own."""


@dataclass(frozen=True)
class Standing:
    """How far a study has come.

    cells, done, failed, running  how many there are, have finished, diverged or crashed, and run here now
    seconds_left                  by what cells of the same arm took; None while none is known
    """

    cells: int
    done: int
    failed: int
    running: int
    seconds_left: float | None


class StudyReporter(Protocol):
    """Told what happens in a study."""

    def say(self, text: str) -> None:
        """A line for a person."""

    def preparing(self, stage: str, done: int, total: int | None) -> None:
        """Text is being read, a tokenizer trained, tokens written."""

    def ended(self, cell: Cell, standing: Standing) -> None:
        """A cell has ended, here or in another process."""

    def moved(self, standing: Standing) -> None:
        """Cells were begun, or have come further."""


class Unheard:
    """Says nothing: callers from Python."""

    def say(self, text: str) -> None: ...

    def preparing(self, stage: str, done: int, total: int | None) -> None: ...

    def ended(self, cell: Cell, standing: Standing) -> None: ...

    def moved(self, standing: Standing) -> None: ...


@dataclass
class _Work:
    """What is left to do of some cells, and what is known of the others."""

    waiting: deque[Unit]
    total: int
    ended: dict[Path, Cell]
    running: dict[Unit, float] = field(default_factory=dict)
    busy: dict[Unit, float] = field(default_factory=dict)
    attempts: Counter[Unit] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)


class Dispatch:
    """Runs cells on an executor. It keeps nothing that is not in the cells' files but how often a process has died.

    together  how many seeds of an arm are one unit
    """

    def __init__(self, study: Path, executor: Executor, reporter: StudyReporter, wish: StopWish, *, together: int = 1) -> None:
        self.study, self.executor, self.reporter, self.wish, self.together = study, executor, reporter, wish, together
        self._warned: set[str] = set()
        self._begun = False

    def run(self, cells: Sequence[CellPlan]) -> dict[Path, Cell]:
        """How each of these cells ended, by its directory; those that did not end yet are run, seed by seed.

        `UserError` where one meets a mistake of the user's, `Interrupted` where this process was asked to stop: what runs has then
        written a checkpoint, and the same call goes on.
        """
        cells = order(cells)
        known = {cell.directory: found for cell in cells if (found := state(cell, self.study)) is not None}
        left = [cell for cell in cells if cell.directory not in known]
        work = _Work(deque(units_of(left, self.together)), len(cells), known)
        for cell in known.values():
            self._time(work, cell)
        while work.waiting or work.running or work.busy:
            self._check_wish(work)
            self._begin(work)
            for report in self.executor.next(LOOK_SECONDS):
                self._take(report, work)
        return {cell.directory: work.ended[cell.directory] for cell in cells}

    def _begin(self, work: _Work) -> None:
        """Give out what is waiting; a unit that another process had is looked at again."""
        now = time.monotonic()
        for unit in [unit for unit, since in work.busy.items() if now - since >= LOOK_SECONDS]:
            del work.busy[unit]
            work.waiting.append(unit)
        while work.waiting and self.executor.free:
            unit = work.waiting.popleft()
            if self._settled(unit, work):
                continue
            self.executor.submit(unit)
            work.running[unit] = now
            self.reporter.moved(self._standing(work))

    def _take(self, report: Report, work: _Work) -> None:
        unit = report.unit
        if report.kind == "warning":
            self._warn(report.text)
            return
        if report.kind == "step":
            self.reporter.moved(self._standing(work))
            return
        work.running.pop(unit, None)
        if report.kind == "mistake":
            self.executor.stop()
            raise UserError(f"{_named(unit)}: {report.text}")
        if report.kind == "busy":
            work.busy[unit] = time.monotonic()
        elif report.kind == "died":
            self._mourn(report, work)
        elif not self._settled(unit, work):
            work.waiting.append(unit)

    def _settled(self, unit: Unit, work: _Work) -> bool:
        """Whether all cells of a unit have ended, here or elsewhere; each is told once."""
        found = {cell.directory: state(cell, self.study) for cell in unit}
        for directory, cell in found.items():
            if cell is not None and directory not in work.ended:
                work.ended[directory] = cell
                self._time(work, cell)
                self.reporter.ended(cell, self._standing(work))
        return None not in found.values()

    def _mourn(self, report: Report, work: _Work) -> None:
        """A unit whose process died is tried once more; then its cells have crashed."""
        unit = report.unit
        work.attempts[unit] += 1
        if work.attempts[unit] < ATTEMPTS:
            self.reporter.say(f"{_named(unit)}: {report.text}; it is tried once more")
            work.waiting.appendleft(unit)
            return
        for cell in unit:
            if state(cell, self.study) is None:
                crash(cell, self.study, f"{report.text}, {ATTEMPTS} times")
        self._settled(unit, work)

    def _check_wish(self, work: _Work) -> None:
        if not self.wish.signal:
            return
        if work.running:
            self.reporter.say("stopping: cells that run finish their step and write a checkpoint")
        self.executor.stop()
        standing = self._standing(work)
        raise Interrupted(
            f"stopped with {standing.done + standing.failed} of {standing.cells} cells ended; the same command goes on from there",
            128 + self.wish.signal,
        )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.reporter.say(f"warning: {text}")

    def _time(self, work: _Work, cell: Cell) -> None:
        if cell.seconds is not None and cell.ending == "finished":
            work.seconds.setdefault(cell.arm, []).append(cell.seconds)

    def _standing(self, work: _Work) -> Standing:
        done = sum(cell.ending == "finished" for cell in work.ended.values())
        return Standing(work.total, done, len(work.ended) - done, sum(map(len, work.running)), self._seconds_left(work))

    def _seconds_left(self, work: _Work) -> float | None:
        known = [one for times in work.seconds.values() for one in times]
        if not known:
            return None
        usual = sum(known) / len(known)
        mean = {arm: sum(times) / len(times) for arm, times in work.seconds.items()}
        now = time.monotonic()
        waiting = sum(mean.get(cell.arm, usual) for unit in (*work.waiting, *work.busy) for cell in unit)
        running = [max(sum(mean.get(cell.arm, usual) for cell in unit) - (now - since), 0.0) for unit, since in work.running.items()]
        return max([*running, (waiting + sum(running)) / self.executor.workers], default=0.0)


def crash(cell: CellPlan, study: Path, reason: str) -> None:
    """Write that a cell has crashed."""
    (study / cell.directory).mkdir(parents=True, exist_ok=True)
    write_whole(study / cell.directory / ENDING, json.dumps({"ending": "crashed", "reason": reason}, indent=2) + "\n")


def forget_failures(cells: Sequence[CellPlan], study: Path, say: Callable[[str], None]) -> None:
    """Have cells that diverged or crashed run again; one that left a checkpoint goes on from it."""
    for cell in cells:
        found = state(cell, study)
        if found is not None and found.ending != "finished":
            (study / cell.directory / ENDING).unlink(missing_ok=True)
            say(f"{cell.arm} seed {cell.seed} is tried again: it had {found.ending}, {found.reason}")


def _named(unit: Unit) -> str:
    seeds = ", ".join(str(cell.seed) for cell in unit)
    return f"{unit[0].arm} seed{'s' * (len(unit) > 1)} {seeds}"
