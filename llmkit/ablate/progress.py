"""What a person sees while a study runs: one bar over its cells on a terminal, a line a cell elsewhere; both on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from llmkit.ablate.dispatch import Standing
from llmkit.ablate.results import Cell
from llmkit.train.progress import clock


class StudyScreen:
    """Writes to a console. Use it in a `with`, so that the terminal is left clean however the study ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage = ""

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (TextColumn("cells"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console, transient=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def preparing(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._stage = stage
            self.say(f"preparing data: {stage}")

    def ended(self, cell: Cell, standing: Standing) -> None:
        name = f"{cell.arm} seed {cell.seed}"
        if cell.ending != "finished":
            self.say(f"{name} {cell.ending}: {cell.reason}")
        elif self._bar is None:
            took = "" if cell.seconds is None else f" in {cell.seconds:.1f} s"
            self.say(f"cell {standing.done + standing.failed}/{standing.cells}: {name}: {cell.value:.4f}{took}; {_left(standing)}")
        self.moved(standing)

    def moved(self, standing: Standing) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=standing.cells)
        failed = f", {standing.failed} failed" if standing.failed else ""
        words = f"{standing.running} running{failed}; {_left(standing)}"
        self._bar.update(self._task, completed=standing.done + standing.failed, total=standing.cells, description=words)


def _left(standing: Standing) -> str:
    return "how long is not known yet" if standing.seconds_left is None else f"about {clock(standing.seconds_left)} left"
