"""Which checkpoints of a run stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmkit.core.spec import TrainSpec


@dataclass(frozen=True)
class KeepRule:
    """What stays is what any part of the rule keeps.

    last   so many of the latest; None for all
    every  of steps that it divides, for ever; None for none
    best   the one with the lowest validation loss, the later of two that are equal
    older  the latest that is so many steps older than the last: what a spike makes the run go back to; None for none
    """

    last: int | None = None
    every: int | None = None
    best: bool = False
    older: int | None = None

    @classmethod
    def of(cls, train: TrainSpec) -> KeepRule:
        """The rule that a spec asks for."""
        older = train.spikes.margin if train.spikes.policy == "rollback" else None
        return cls(train.keep_checkpoints, train.keep_every, train.keep_best, older)

    def kept(self, steps: Sequence[int], losses: Mapping[int, float]) -> set[int]:
        """The steps, of those that have a checkpoint, whose checkpoints stay.

        losses  validation losses by step; a step without one is not the best
        """
        latest = sorted(steps, reverse=True)
        kept = set(latest[: self.last])
        if self.every is not None:
            kept |= {step for step in steps if step % self.every == 0}
        if self.older is not None and latest:
            kept.add(max((step for step in latest if step + self.older <= latest[0]), default=latest[-1]))
        measured = [step for step in latest if step in losses]
        if self.best and measured:
            kept.add(min(measured, key=lambda step: losses[step]))
        return kept
