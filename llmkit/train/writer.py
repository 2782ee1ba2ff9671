"""Checkpoints written beside the training: the loop gives a copy of what is to be saved and takes the next step."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from llmkit.train.checkpoint import State, prune, save
from llmkit.train.keep import KeepRule


class CheckpointWriter:
    """A thread that writes one checkpoint at a time, in a `with` of the loop's.

    It is the disk's time that is saved: copying the state costs a step the time that its bytes take in memory, and the run as much
    memory again while a checkpoint is written. Older checkpoints are removed by the rule, once the newer one is complete.

    What goes wrong is raised in the loop's thread: by `check` in the next step, by the next `save`, or by `wait`.
    """

    def __init__(self, directory: Path, rule: KeepRule, rows: Callable[[], Iterable[Path]]) -> None:
        """rows  the files that tell of the run's steps: they reach the disk before a checkpoint gets its name"""
        self._directory, self._rule, self._rows = directory, rule, rows
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    def save(self, state: State, losses: Mapping[int, float]) -> None:
        """Copy the state and begin to write it, after the one before is complete.

        losses  validation losses by step, for the rule
        """
        self.wait()
        # A daemon: who presses Ctrl-C once more while this is waited for does not wait. What is half-written then is a draft.
        self._thread = threading.Thread(target=self._work, args=(state.copied(), dict(losses)), name="checkpoint writer", daemon=True)
        self._thread.start()

    def tidy(self, losses: Mapping[int, float]) -> None:
        """Do what a process that was killed after its last checkpoint could not: remove what the rule does not keep."""
        self.wait()
        prune(self._directory, self._rule, losses)

    def check(self) -> None:
        """Raise what went wrong with a checkpoint, if something did."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def wait(self) -> None:
        """Until the checkpoint that is being written is complete. Raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _work(self, state: State, losses: Mapping[int, float]) -> None:
        try:
            save(self._directory, state, self._rows())
            prune(self._directory, self._rule, losses)
        except BaseException as error:
            self._failed = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            return self.wait()
        try:
            self.wait()
        except Exception as failed:
            # The error on its way out is the one that a person must read first.
            warnings.warn(str(failed), stacklevel=2)
        return None
