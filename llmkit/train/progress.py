"""What a person sees while a run trains: a progress bar on a terminal, plain lines elsewhere; both on stderr."""

from __future__ import annotations

import unicodedata
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

LINES = 20
"""How many plain lines tell a whole run where there is no terminal."""


class Reporter(Protocol):
    """Told what happens; the loop knows no more of the screen than this."""

    def say(self, text: str) -> None:
        """A line for a person."""

    def preparing(self, stage: str, done: int, total: int | None) -> None:
        """Text is being read, a tokenizer trained, tokens written."""

    def step(self, row: dict[str, Any], total: int) -> None:
        """A training step is done."""


class Silent:
    """Says nothing: ranks other than the first, and callers from Python."""

    def say(self, text: str) -> None: ...

    def preparing(self, stage: str, done: int, total: int | None) -> None: ...

    def step(self, row: dict[str, Any], total: int) -> None: ...


class Terminal:
    """A console with a bar where it is a terminal. Use it in a `with`, so that it is left clean however the work ends.

    counted  what the bar counts; `columns` stand behind its words
    """

    counted: str
    columns: tuple[ProgressColumn, ...] = ()

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._stage = ""

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (TextColumn(self.counted), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), *self.columns)
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

    @property
    def has_bar(self) -> bool:
        """Whether `move` shows anything."""
        return self._bar is not None

    def move(self, done: int, total: int, words: str) -> None:
        """How far the bar is, which begins with the first call."""
        if self._bar is None:
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done, total=total, description=words)


class Preparing(Terminal):
    """The stages of preparing data: a bar on a terminal, a line for each elsewhere."""

    counted = "shard"

    def preparing(self, stage: str, done: int, total: int | None) -> None:
        if self.has_bar and total:
            self.move(done, total, stage)
        else:
            super().preparing(stage, done, total)


class Screen(Terminal):
    """A run's steps: a bar on a terminal, some lines elsewhere."""

    counted = "step"
    columns = (TimeRemainingColumn(),)

    def step(self, row: dict[str, Any], total: int) -> None:
        if self.has_bar:
            self.move(row["step"], total, _words(row))
        elif row["step"] % max(total // LINES, 1) == 0 or row["step"] == total:
            left = (total - row["step"]) * row["seconds"]
            self.say(f"step {row['step']}/{total}  {_words(row)}  lr {row['learning_rate']:.2e}  {clock(left)} left")


def printable(text: str) -> str:
    """Text of a model without control characters but line breaks: it may write an escape sequence, which a terminal obeys."""
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) != "Cc")


def _words(row: dict[str, Any]) -> str:
    loss = "no number" if row["loss"] is None else f"{row['loss']:.3f}"
    return f"loss {loss}  {row['tokens_per_second']:,.0f} tokens/s  {row['mfu']:.0%} MFU"


def clock(seconds: float) -> str:
    """`1:05`, `2:03:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
