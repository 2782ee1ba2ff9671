"""Laws of schedules. Plain Python: no torch."""

from __future__ import annotations

import math

from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

TOTALS = (1, 2, 3, 10, 1000)


def factors_are_finite_and_never_negative(subject: Subject) -> None:
    """For every step of runs of 1 to 1000 steps the factor is a finite number, at least 0, and above 0 at the first step."""
    schedule = subject.make()
    for total in TOTALS:
        for step in range(total):
            factor = schedule(step, total)
            if not isinstance(factor, float | int) or not math.isfinite(factor) or factor < 0:
                raise LawBroken(f"step {step} of {total} has the factor {factor!r}")
            if step == 0 and factor == 0:
                raise LawBroken(f"the first of {total} steps has the factor 0, which wastes it")


def a_factor_depends_on_step_and_total_alone(subject: Subject) -> None:
    """Asked in any order, or of another copy, a step has the same factor: resuming needs no state."""
    schedule = subject.make()
    forwards = {(step, total): schedule(step, total) for total in TOTALS for step in range(total)}
    for (step, total), factor in reversed(forwards.items()):
        for again in (schedule(step, total), subject.make()(step, total)):
            if again != factor:
                raise LawBroken(f"step {step} of {total} has the factor {factor} and, asked again, {again}")


LAWS = (Law(factors_are_finite_and_never_negative), Law(a_factor_depends_on_step_and_total_alone))
