"""The spike detector, and what is decided where it finds something.

A value is anomalous above `mean + 6 deviations` of the last 128 before it, once 64 were seen (OLMo-core's rule), with three changes:

* An anomalous value does not enter the window. One that does inflates the deviation for 128 steps, and hides the next.
* The gradient norm is judged by its logarithm. Its noise is a factor, with a long tail to the right.
* A loss that is less than 3% above the mean, or a norm less than 2.5 times the usual, is none, however steady it was before:
  a constant loss does not alarm at rounding.

A loss or a norm that is no number is anomalous from the first step on. Both are global, so that every rank decides the same.

Measured. False alarms on nine clean runs of `recipe:tiny` and its neighbours (batches of 4 to 16 sequences, 16,625 steps): of the loss
none; of the norm 5, single batches with 2.5 to 3.5 times the usual (two of the five are one batch, in two runs), where the plain rule
has 37. On a million simulated losses: normal noise none, Student-t noise of 5 degrees of freedom 359. A loss that jumps by 7 deviations
is found in that step 99 times in 100, by 8 always. One that climbs slower than its window forgets is not found: this is a detector of
jumps. It costs 3 microseconds a step.

What is decided, by policy. `off`: nothing but divergence, where a value is no number. `warn`: it is told. `skip`: the step's update is
not applied, at most `patience` times in a row; then a finite loss is taken for the new level, and another has diverged. `rollback`:
the run goes back to a clean checkpoint, one at least `margin` steps older than the spike (what blew up may have begun before the loss
showed it), and leaves out `suspects` batches around it; where the spike recurs before the run is `margin` steps beyond it, twice as
many, and after `rollbacks` of these it has diverged (PaLM went back about 100 steps and left out 200-500 batches).

Which batch a step has is a function of the step and of the batches left out. These, the detector's window and all counts are saved
with every checkpoint, and nothing else is needed: a run that is killed between a rollback and its next checkpoint comes to the same
spike and decides the same.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from llmkit.core.spec import SpikesSpec

LEAST_LOSS = 0.03
"""A rise of the loss by less than this part of its mean is no spike."""

LEAST_NORM = 2.5
"""A gradient norm below so many times the usual one is no spike."""

NO_LIMIT = sys.float_info.max
"""Where too few values were seen, only infinity and what is no number are above."""

Measure = Literal["loss", "grad_norm"]
Action = Literal["apply", "skip", "rollback", "diverge"]


class Anomaly(NamedTuple):
    """What is out of line.

    usual, limit  the mean of what came before, and above what a value is anomalous; None where too few values were seen
    """

    measure: Measure
    value: float
    usual: float | None
    limit: float | None

    def __str__(self) -> str:
        name = "loss" if self.measure == "loss" else "gradient norm"
        if self.usual is None or self.limit is None:
            return f"{name} {self.value:.4g}"
        return f"{name} {self.value:.4g}, where {self.usual:.4g} is usual and up to {self.limit:.4g} ordinary"


class Decision(NamedTuple):
    """What becomes of a step's update, and why."""

    action: Action
    anomaly: Anomaly | None = None


APPLY = Decision("apply")


class WentBack(NamedTuple):
    """A rollback.

    checkpoint  the step that the run goes on from
    spike       the batch in which the spike showed
    first, end  batches `[first, end)` are left out from now on
    suspects    those of them that were not before
    """

    checkpoint: int
    spike: int
    first: int
    end: int
    suspects: list[int]


class Level:
    """What the last values were like: their mean and deviation, by running sums, and the `limit` above which the next one is anomalous.

    spec    how many values, and how many deviations
    least   the smallest rise above the mean that is anomalous
    part    the same, as a part of the mean

    The sums are computed anew whenever the window has passed once, so that rounding does not add up.
    """

    def __init__(self, spec: SpikesSpec, *, least: float = 0.0, part: float = 0.0) -> None:
        self.spec, self.least, self.part = spec, least, part
        self.values: deque[float] = deque(maxlen=spec.window)
        self._sum = self._squares = self.mean = self.deviation = 0.0
        self._until_anew = spec.window
        self.limit = NO_LIMIT

    def ready(self) -> bool:
        """Whether enough values were seen to judge another."""
        return len(self.values) >= self.spec.minimum

    def add(self, value: float) -> None:
        """A further value; the oldest goes where the window is full."""
        values = self.values
        if len(values) == self.spec.window:
            oldest = values[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        values.append(value)
        self._sum += value
        self._squares += value * value
        self._until_anew -= 1
        if not self._until_anew:
            self._add_up()
        self._set_limit()

    def clear(self) -> None:
        """Forget all values."""
        self.values.clear()
        self._add_up()
        self._set_limit()

    def state_dict(self) -> dict[str, Any]:
        """All that it knows, in numbers."""
        return {"values": list(self.values), "sum": self._sum, "squares": self._squares, "until_anew": self._until_anew}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be as the one that was saved; of a window that was longer, its latest values."""
        self.values.clear()
        self.values.extend(state["values"])
        self._sum, self._squares, self._until_anew = state["sum"], state["squares"], state["until_anew"]
        if len(state["values"]) > self.spec.window or self._until_anew > self.spec.window:
            self._add_up()
        self._set_limit()

    def _add_up(self) -> None:
        self._sum, self._squares = math.fsum(self.values), math.fsum(value * value for value in self.values)
        self._until_anew = self.spec.window

    def _set_limit(self) -> None:
        count = len(self.values)
        if count < self.spec.minimum:
            self.limit = NO_LIMIT
            return
        self.mean = mean = self._sum / count
        self.deviation = math.sqrt(max(self._squares / count - mean * mean, 0.0))
        self.limit = mean + max(self.spec.deviations * self.deviation, self.part * abs(mean), self.least)


class Guard:
    """Looks at every step's loss and gradient norm, decides, and knows which batches the run leaves out.

    scaled  whether a loss scaler skips steps whose gradient is no number (fp16): that is no anomaly then
    """

    def __init__(self, spec: SpikesSpec, *, scaled: bool = False) -> None:
        self.spec, self.scaled = spec, scaled
        self.loss, self.norm = Level(spec, part=LEAST_LOSS), Level(spec, least=math.log(LEAST_NORM))
        self.left_out: list[tuple[int, int]] = []
        """Batches `[first, end)` that no step has, disjoint and in order."""
        self.found = self.skipped = self.rollbacks = 0
        self.in_a_row = 0
        self.here = 0
        """How often the run went back at this place."""
        self._beyond = 0

    def batch_of(self, step: int) -> int:
        """The batch that a step trains on: the `step`-th of those that are not left out. Both count from 0."""
        batch = step
        for first, end in self.left_out:
            if batch < first:
                break
            batch += end - first
        return batch

    def look(self, step: int, loss: float, norm: float) -> Decision:
        """What becomes of a step's update, by the loss and the gradient norm of the whole batch. Steps count from 0."""
        if self.spec.policy == "off":
            return APPLY if self._is_finite(loss, norm) else Decision("diverge", self.judge(loss, norm))
        anomaly = self.judge(loss, norm)
        if anomaly is not None:
            self.found += 1
            return Decision(self._action(step, anomaly), anomaly)
        self.loss.add(loss)
        if norm < math.inf:
            self.norm.add(_logarithm(norm))
        self.in_a_row = 0
        return APPLY

    def judge(self, loss: float, norm: float) -> Anomaly | None:
        """What of the two is out of line with the steps before; None where nothing is, or too few were seen to tell."""
        # Whatever is no number compares as false.
        if not loss <= self.loss.limit:
            known = self.loss.ready()
            return Anomaly("loss", loss, self.loss.mean if known else None, self.loss.limit if known else None)
        if norm <= 0 or (math.isfinite(norm) and math.log(norm) <= self.norm.limit):
            return None
        if self.scaled and not math.isfinite(norm):
            return None
        known = self.norm.ready()
        return Anomaly("grad_norm", norm, math.exp(self.norm.mean) if known else None, math.exp(self.norm.limit) if known else None)

    def ready(self) -> bool:
        """Whether enough steps were seen to judge a loss."""
        return self.loss.ready()

    def sequence_limit(self, batch_size: int) -> float:
        """Above what a single sequence's loss is out of line: it spreads sqrt(batch_size) times as far as the mean of a batch."""
        return self.loss.mean + math.sqrt(batch_size) * (self.loss.limit - self.loss.mean)

    def clean(self, step: int, checkpoints: Sequence[int]) -> int | None:
        """Of the steps that have a checkpoint, the one to go back to where a spike shows in `step`: the latest that is clean.

        Where all are too young, the oldest: the initial values, or what the run was begun from. None where there is none.
        """
        old = [one for one in checkpoints if one + self.spec.margin <= step]
        return max(old) if old else min(checkpoints, default=None)

    def go_back(self, step: int, checkpoint: int, state: Mapping[str, Any]) -> WentBack:
        """From a spike in `step` to a checkpoint, whose saved state this is.

        What was learnt of the data, and how often the run went back, is kept; what is usual is what it was.
        """
        spike = self.batch_of(step)
        half = max(self.spec.suspects << (self.here - 1) >> 1, 1)
        first, end = max(spike + 1 - half, self.batch_of(checkpoint)), spike + 1 + half
        suspects = [batch for batch in range(first, end) if not any(start <= batch < stop for start, stop in self.left_out)]
        self.left_out = _united([*self.left_out, (first, end)])
        self.rollbacks += 1
        self._load_levels(state)
        return WentBack(checkpoint, spike, first, end, suspects)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "loss": self.loss.state_dict(),
            "grad_norm": self.norm.state_dict(),
            "left_out": [list(one) for one in self.left_out],
            "found": self.found,
            "skipped": self.skipped,
            "rollbacks": self.rollbacks,
            "in_a_row": self.in_a_row,
            "here": self.here,
            "beyond": self._beyond,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that was saved would have. An empty state is that of a run's beginning."""
        self._load_levels(state)
        self.left_out = [(first, end) for first, end in state.get("left_out", ())]
        self.found, self.skipped, self.rollbacks = (state.get(name, 0) for name in ("found", "skipped", "rollbacks"))
        self.here, self._beyond = state.get("here", 0), state.get("beyond", 0)

    def _load_levels(self, state: Mapping[str, Any]) -> None:
        for level, name in ((self.loss, "loss"), (self.norm, "grad_norm")):
            if name in state:
                level.load_state_dict(state[name])
            else:
                level.clear()
        self.in_a_row = state.get("in_a_row", 0)

    def _action(self, step: int, anomaly: Anomaly) -> Action:
        if self.spec.policy == "rollback":
            self.here = self.here + 1 if step < self._beyond else 1
            self._beyond = max(self._beyond, step + self.spec.margin)
            return "rollback" if self.here <= self.spec.rollbacks else "diverge"
        self.in_a_row += 1
        finite = math.isfinite(anomaly.value)
        if self.in_a_row > self.spec.patience:
            self.loss.clear()
            self.norm.clear()
            self.in_a_row = 0
            return "apply" if finite else "diverge"
        if self.spec.policy == "warn":
            return "apply" if finite else "diverge"
        self.skipped += 1
        return "skip"

    def _is_finite(self, loss: float, norm: float) -> bool:
        return math.isfinite(loss) and (self.scaled or math.isfinite(norm))


def _logarithm(norm: float) -> float:
    # A gradient of zero has no logarithm; so small a norm as this is as unusual.
    return math.log(max(norm, 1e-30))


def _united(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in disjoint ranges, in order."""
    united: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if united and first <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((first, end))
    return united
