"""Laws of mixers. Plain Python: no torch."""

from __future__ import annotations

import math

from llmkit.core.interfaces.mixer import Size
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

SIZES = {"books": Size(20, 4_000_000, 16_000_000), "web": Size(90_000, 30_000_000, 110_000_000), "code": Size(1, 7, 20)}
"""What the laws mix; examples of parameters that name sources name these."""


def proportions_are_of_every_source_and_together_one(subject: Subject) -> None:
    """Every source has a proportion, none negative, which together are 1."""
    found = subject.make().proportions(SIZES)
    if set(found) != set(SIZES):
        raise LawBroken(f"the sources {list(SIZES)} have proportions of {list(found)}")
    if any(not math.isfinite(part) or part < 0 for part in found.values()) or not math.isclose(sum(found.values()), 1):
        raise LawBroken(f"the proportions {found} are no parts of a whole")


def proportions_are_of_the_sizes_alone(subject: Subject) -> None:
    """Asked twice, of another copy, and with the sources in another order, the proportions are the same."""
    first = subject.make().proportions(SIZES)
    again = subject.make().proportions(dict(reversed(SIZES.items())))
    if any(not math.isclose(first[name], again[name]) for name in SIZES):
        raise LawBroken(f"the proportions are {first}, then {again}")


LAWS = (Law(proportions_are_of_every_source_and_together_one), Law(proportions_are_of_the_sizes_alone))
