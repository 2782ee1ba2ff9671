"""What every filter of thresholds does: measure, and drop at the first number outside its limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document


class ThresholdFilter(Filter):
    """A filter that is told by `statistics` and `limits` alone.

    A document is dropped at the first statistic that is outside a limit; what comes after is not computed. The order of
    `statistics` is therefore the order in which reasons are given.
    """

    def statistics(self, text: str, exact: bool) -> Iterator[tuple[str, float]]:
        """The numbers of a text, each with its name, as they are needed.

        exact  whether all are asked for; else one that is surely within its limits may be left out
        """
        raise NotImplementedError

    def apply(self, document: Document) -> Document | Drop:
        for name, value in self.statistics(document.text, exact=False):
            for limit in self._limits_on.get(name, ()):
                if limit.least is not None and value < limit.least:
                    return Drop(limit.parameter, value, limit.least)
                if limit.most is not None and value > limit.most:
                    return Drop(limit.parameter, value, limit.most)
        return document

    def measure(self, document: Document) -> Mapping[str, float]:
        return dict(self.statistics(document.text, exact=True))

    @cached_property
    def _limits_on(self) -> Mapping[str, Sequence[Limit]]:
        found: dict[str, list[Limit]] = defaultdict(list)
        for limit in self.limits():
            found[limit.statistic].append(limit)
        return dict(found)


def given(*limits: Limit) -> tuple[Limit, ...]:
    """Those limits that have a threshold: a parameter that is null switches its rule off."""
    return tuple(limit for limit in limits if limit.least is not None or limit.most is not None)


def share(part: float, whole: float) -> float:
    """`part / whole`, and 0 of nothing."""
    return part / whole if whole else 0.0
