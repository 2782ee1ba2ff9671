"""What another threshold would have dropped, read off the quantiles of its statistic."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from llmkit.data.funnel import Sensitivity


def below(values: Sequence[float], threshold: float) -> float:
    """The part of the documents whose statistic is less, by straight lines between the quantiles."""
    index = bisect_left(values, threshold)
    if index in (0, len(values)):
        return 0.0 if index == 0 else 1.0
    low, high = values[index - 1], values[index]
    return (index - 1 + (threshold - low) / (high - low)) / (len(values) - 1)


def above(values: Sequence[float], threshold: float) -> float:
    """The part of the documents whose statistic is more."""
    return below([-value for value in reversed(values)], -threshold)


def dropped_at(one: Sensitivity, least: float | None, most: float | None) -> float:
    """The part of the documents that these limits drop."""
    low = 0.0 if least is None else below(one.values, least)
    high = 0.0 if most is None else above(one.values, most)
    return min(low + high, 1.0)


def dropped_in_use(one: Sensitivity) -> float:
    """The part that the limits in use drop."""
    return dropped_at(one, one.least, one.most)


def moved(one: Sensitivity, part: float) -> tuple[float | None, float | None]:
    """Both limits stricter by a part of themselves; looser where it is negative."""
    least = None if one.least is None else one.least + abs(one.least) * part
    most = None if one.most is None else one.most - abs(one.most) * part
    return least, most
