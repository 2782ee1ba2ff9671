"""The learning rate over a run: up to the peak, and what comes after. W warm-up steps of N, s = 0 .. N - 1:

    s < W    (s + 1) / (W + 1), so that no step has rate 0
    s = W    1, the peak
    s = N    the floor, where the run ends

Step N would be the one after the last. So the last step, N - 1, stands just above the floor, and with a floor of 0 it still
learns something. After the warm-up this is what nanoGPT and transformers' `get_*_schedule_with_warmup` compute; in it, nanoGPT.
"""

from __future__ import annotations

import math

from llmkit.core.interfaces.schedule import Schedule
from llmkit.plugins.schedules.components import ConstantParams, DecayParams, WsdParams


def steps_of(duration: float, total: int) -> int:
    """A duration in steps of a run of `total`: a part of it below 1, rounded but not to nothing, else steps. At most the whole run."""
    if duration == 0:
        return 0
    return min(total, max(1, round(duration * total)) if duration < 1 else int(duration))


class Constant(Schedule):
    """Warm-up, then 1."""

    params: ConstantParams

    def __call__(self, step: int, total: int) -> float:
        warmup = steps_of(self.params.warmup, total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(step - warmup, total - warmup)

    def after_warmup(self, step: int, total: int) -> float:
        """The factor, with steps counted from the end of the warm-up; `step` equal to `total` is the end of the run."""
        return 1.0


class Cosine(Constant):
    """Warm-up, then `floor + (1 - floor) (1 + cos(pi p)) / 2` with p = (s - W) / (N - W) (Loshchilov and Hutter, arXiv 1608.03983)."""

    params: DecayParams

    def after_warmup(self, step: int, total: int) -> float:
        return above(self.params.floor, (1 + math.cos(math.pi * progress(step, total))) / 2)


class Linear(Constant):
    """Warm-up, then `floor + (1 - floor) (1 - p)` with p = (s - W) / (N - W)."""

    params: DecayParams

    def after_warmup(self, step: int, total: int) -> float:
        return above(self.params.floor, 1 - progress(step, total))


class WarmupStableDecay(Constant):
    """Warm-up, a plateau at 1, and over the last D steps `1 - p` or `1 - sqrt(p)` with p = (s - (N - D)) / D, down to the floor.

    The plateau is the same for every N, so that a run can be made longer from any of its checkpoints (MiniCPM, arXiv
    2404.06395); the square root ended lower than the line in Hägele et al., arXiv 2405.18392.
    """

    params: WsdParams

    def __call__(self, step: int, total: int) -> float:
        warmup = steps_of(self.params.warmup, total)
        decay = min(steps_of(self.params.decay, total), total - warmup)
        if step < total - decay:
            return super().__call__(step, total)
        p = progress(step - (total - decay), decay)
        return above(self.params.floor, 1 - (math.sqrt(p) if self.params.shape == "sqrt" else p))


def progress(step: int, total: int) -> float:
    """How far through: 0 at step 0, 1 from `total` on, and where there is nothing to go through."""
    return min(1.0, step / total) if total else 1.0


def above(floor: float, part: float) -> float:
    """`part` of the way from the floor to the peak."""
    return floor + (1 - floor) * part
