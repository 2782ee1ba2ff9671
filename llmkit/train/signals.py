"""Ctrl-C and SIGTERM: within a step a wish to stop, which the loop grants after it; outside of the steps they stop at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(KeyboardInterrupt):
    """The run stopped because it was asked to; `exit_code` is 130 or 143. No `except Exception` on its way takes it for an error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopWish:
    """While it is entered, SIGINT and SIGTERM raise `Interrupted`, and within `deferred()` they only set `signal`.

    A second Ctrl-C does not wait. Outside of the main thread, which alone can have handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Where the caller looks at `signal` often, and stops in its own way."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        impatient = self.signal == signal.SIGINT and number == signal.SIGINT
        if impatient or not self._deferred:
            raise Interrupted("stopped at once; the same command goes on from the last complete checkpoint, or begins", 128 + number)
        self.signal = number
