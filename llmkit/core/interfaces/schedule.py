"""Learning-rate schedules."""

from __future__ import annotations

from typing import Any


class Schedule:
    """A factor on the learning rate as a pure function of the step, built with `(params)`.

    It has no state, so that resuming needs none, and it is called with whatever `total` the run has now: a run that is made
    longer goes on with the new total. Nothing but `__call__` is to be written. It is plain Python: no torch, no tensor.

    A whole one, with the component that its plugin's hook returns:

        class InverseSqrtParams(Params):
            warmup: int = Field(100, ge=1, description="steps until the peak")

        class InverseSqrt(Schedule):
            def __call__(self, step: int, total: int) -> float:
                warmup = self.params.warmup
                return min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)

        Component(Kind.schedule, "acme.inverse_sqrt", InverseSqrtParams, "llmkit_acme.schedules:InverseSqrt", "up, then 1 / sqrt(step)")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def __call__(self, step: int, total: int) -> float:
        """The factor for optimizer step `step` of `total`, 0 <= step < total: the loop sets `lr = initial_lr * factor`.

        step    counts from 0: the first update is step 0, and a factor of 0 there would waste it
        total   optimizer steps of the whole run, at least 1; any parameter in steps may exceed it
        return  finite and at least 0; 1 is the optimizer's own `lr`
        """
        raise NotImplementedError
