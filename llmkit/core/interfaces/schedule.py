"""Learning-rate schedules."""

from __future__ import annotations

from typing import Any


class Schedule:
    """A pure function of the step, built with `(params)`. It has no state, so that resuming needs none."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def __call__(self, step: int, total: int) -> float:
        """The factor on every group's learning rate for optimizer step `step` of `total`; steps count from 0. At least 0."""
        raise NotImplementedError
