"""How long a study takes: a few steps of every arm, trained on this machine as its cells will be, and thrown away."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from llmkit.ablate.arms import with_settings
from llmkit.ablate.plan import Estimate, Plan, PlannedArm, runs, trials
from llmkit.core.catalog import Catalog
from llmkit.core.spec import Spec
from llmkit.data.prepare import prepare
from llmkit.train.loop import train

STEPS = 12
"""Steps of a probe; their median counts, so that the first ones, which are slow, do not."""

PATIENCE = 20.0
"""Seconds after which a probe has seen enough, however few steps these were."""

AT_LEAST = 2
"""Steps that a probe takes in any case: the first one is never like the others."""


class _Enough(Exception):
    """The probe knows what it was to find out."""


@dataclass
class _Watch:
    """When each step of a run ended.

    whole  whether the run is to end as a cell does, evaluation included
    """

    whole: bool
    began: float = field(default_factory=time.perf_counter)
    ended: list[float] = field(default_factory=list)

    def __call__(self, step: int, _: Any) -> None:
        self.ended.append(time.perf_counter())
        slow = step >= AT_LEAST and self.ended[-1] - self.ended[0] > PATIENCE
        if slow or (step >= STEPS and not self.whole):
            raise _Enough

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return statistics.median(after - before for before, after in zip(self.ended, self.ended[1:], strict=False))

    @property
    def start(self) -> float:
        """Seconds until the first step began."""
        return max(0.0, self.ended[0] - self.began - self.step)


def estimate(plan: Plan, *, workers: int = 1, catalog: Catalog | None = None) -> Plan:
    """The plan with the seconds of each arm's run and of the whole study, for so many cells at once.

    Every arm is trained for a few steps, one after the other, on as many threads as a worker will have; the evaluation at the end is
    timed for the baseline and taken for all. Text and tokenizers are prepared first and stay, as for the study itself.
    """
    began = time.perf_counter()
    threads = (
        max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else max(1, (os.cpu_count() or 1) // workers)
    )
    with _threads(threads):
        end, first = _probe(plan.baseline.spec, catalog, whole=True)
        watches = {plan.baseline.name: first}
        for arm in plan.arms:
            if arm.name not in watches:
                watches[arm.name] = _probe(arm.spec, catalog, whole=False)[1]
    arms = tuple(replace(arm, seconds=_seconds(arm.spec, watches[arm.name], end)) for arm in plan.arms)
    study = sum((arm.seconds or 0.0) * _runs_of(plan, arm) for arm in arms) / workers
    return replace(plan, arms=arms, estimate=Estimate(study, runs(plan.study), workers, threads, time.perf_counter() - began))


def _runs_of(plan: Plan, arm: PlannedArm) -> int:
    return len(plan.study.seeds) + (trials(plan.study) if arm.name in plan.study.tune_arms else 0)


def _seconds(spec: Spec, watch: _Watch, end: float) -> float:
    """Of a whole run: its start, its steps, and what is evaluated on the way and at the end."""
    on_the_way = (spec.steps - 1) // spec.train.eval_every if spec.train.eval_every else 0
    return watch.start + spec.steps * watch.step + (1 + on_the_way) * end


def _probe(spec: Spec, catalog: Catalog | None, *, whole: bool) -> tuple[float, _Watch]:
    """Seconds that a run took after its last step, 0 where it was not let end, and when its steps ended."""
    prepare(spec)
    short = with_settings(spec, {"train.steps": STEPS, **dict.fromkeys(_PERIODIC)}, catalog)
    with tempfile.TemporaryDirectory(prefix="llmkit-probe-") as directory:
        watch, end = _Watch(whole), 0.0
        with suppress(_Enough):
            train(short, out=Path(directory) / "run", catalog=catalog, witness=watch)
            end = time.perf_counter() - watch.ended[-1]
    return end, watch


_PERIODIC = ("train.checkpoint_every", "train.eval_every", "train.sample_every")


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
