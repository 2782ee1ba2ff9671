"""What a person sees while a study runs: one bar over its cells on a terminal, a line a cell elsewhere; both on stderr."""

from __future__ import annotations

from llmkit.ablate.dispatch import Standing
from llmkit.ablate.results import Cell
from llmkit.train.progress import Terminal, clock


class StudyScreen(Terminal):
    """A study's cells, as they end."""

    counted = "cells"

    def ended(self, cell: Cell, standing: Standing) -> None:
        name = f"{cell.arm} seed {cell.seed}"
        if cell.ending != "finished":
            self.say(f"{name} {cell.ending}: {cell.reason}")
        elif not self.has_bar:
            took = "" if cell.seconds is None else f" in {cell.seconds:.1f} s"
            self.say(f"cell {standing.done + standing.failed}/{standing.cells}: {name}: {cell.value:.4f}{took}; {_left(standing)}")
        self.moved(standing)

    def moved(self, standing: Standing) -> None:
        failed = f", {standing.failed} failed" if standing.failed else ""
        self.move(standing.done + standing.failed, standing.cells, f"{standing.running} running{failed}; {_left(standing)}")


def _left(standing: Standing) -> str:
    return "how long is not known yet" if standing.seconds_left is None else f"about {clock(standing.seconds_left)} left"
