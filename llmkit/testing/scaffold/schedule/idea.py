"""The inverse square root, after W steps of warm-up: factor = min((step + 1) / W, sqrt(W / (step + 1)))."""

from __future__ import annotations

from llmkit import Schedule
from llmkit.testing.scaffold.schedule import IdeaParams


class Idea(Schedule):
    """Up to the peak, then ever slower down."""

    params: IdeaParams

    def __call__(self, step: int, total: int) -> float:
        """The factor on the learning rate at step `step` of `total`, counted from 0."""
        warmup = self.params.warmup
        return float(min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5))
