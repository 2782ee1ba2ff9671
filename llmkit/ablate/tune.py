"""A setting of its own for every arm, found with the same number of trials, on seeds that are not judged. Torch-free.

First every combination of the study's values. Then, while some arm's best lies at the edge of what it was tried with, one more trial for
every arm, up to `EXTENSIONS` of them: beyond the edge for such an arm, by the ratio of the values beside it; for another between its
best and the better of the values beside that one, so that no arm has had more chances than the rest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmkit.ablate.arms import with_settings
from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.spec import Spec

EXTENSIONS = 3
"""Trials of an arm beyond those that the study asks for."""

Settings = dict[str, Any]
"""By address."""

Try = Callable[[Sequence["Trial"]], None]
"""Runs trials, and gives each its `values`."""


@dataclass
class Trial:
    """A setting of an arm, tried on the tuning seeds. `values` by seed, None where that one failed; empty before it ran."""

    arm: str
    settings: Settings
    spec: Spec
    values: dict[int, float | None] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Over the seeds; None where one of them failed: a setting that may diverge is not the best."""
        values = [value for value in self.values.values() if value is not None]
        return sum(values) / len(values) if values and len(values) == len(self.values) else None

    def row(self) -> dict[str, Any]:
        """As the results keep it."""
        return {"settings": self.settings, "values": {str(seed): value for seed, value in self.values.items()}, "mean": self.mean}


class Search:
    """What was tried of one arm.

    spec  with the arm's own settings
    """

    def __init__(self, arm: str, spec: Spec, grid: Mapping[str, Sequence[Any]], catalog: Catalog, *, higher_is_better: bool) -> None:
        self.arm, self.spec, self.catalog, self.sign = arm, spec, catalog, -1.0 if higher_is_better else 1.0
        self.trials = [self._trial(dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]

    @property
    def best(self) -> Trial | None:
        """The trial with the best mean, the first of equals; None where each has failed."""
        ended = [trial for trial in self.trials if trial.mean is not None]
        return min(ended, key=self._cost, default=None)

    @property
    def chosen(self) -> Spec:
        """The arm's spec under the best setting; as it is where no trial has ended."""
        return self.best.spec if self.best else self.spec

    @property
    def at_edge(self) -> bool:
        """Whether the best lies where values might be better that were not tried."""
        return next(self._beyond(), None) is not None

    def next_trial(self) -> Trial | None:
        """One more setting: beyond an edge where the best lies at one, else nearer to the best; None where there is no such number."""
        for settings in (*self._beyond(), *self._between()):
            try:
                trial = self._trial(settings)
            except UserError:
                # No component takes this value: here the range ends by its nature.
                continue
            self.trials.append(trial)
            return trial
        return None

    def _trial(self, settings: Settings) -> Trial:
        return Trial(self.arm, settings, with_settings(self.spec, settings, self.catalog))

    def _cost(self, trial: Trial) -> float:
        return math.inf if trial.mean is None else self.sign * trial.mean

    def _beyond(self) -> Iterator[Settings]:
        """The best with one setting further out, where it is the outermost of what was tried."""
        for best, address, line in self._lines():
            values = list(line)
            at = values.index(best.settings[address])
            if at == 0:
                yield from self._new(best, address, further(values[1], values[0]))
            if at == len(values) - 1:
                yield from self._new(best, address, further(values[-2], values[-1]))

    def _between(self) -> Iterator[Settings]:
        """The best with one setting half-way to the better of its neighbours, or to the other where nothing lies between."""
        for best, address, line in self._lines():
            values = list(line)
            at = values.index(best.settings[address])
            for beside in sorted((values[index] for index in (at - 1, at + 1) if 0 <= index < len(values)), key=lambda one: line[one]):
                yield from self._new(best, address, halfway(best.settings[address], beside))

    def _lines(self) -> Iterator[tuple[Trial, str, dict[Any, float]]]:
        """The best, an address, and the cost by its value of all trials that differ from the best there alone, in rising order."""
        best = self.best
        for address in best.settings if best else ():
            assert best is not None
            line = {
                trial.settings[address]: self._cost(trial)
                for trial in self.trials
                if {**trial.settings, address: None} == {**best.settings, address: None}
            }
            if len(line) > 1 and all(_is_number(value) for value in line):
                yield best, address, dict(sorted(line.items()))

    def _new(self, best: Trial, address: str, value: float | None) -> Iterator[Settings]:
        settings = {**best.settings, address: value}
        if value is not None and all(trial.settings != settings for trial in self.trials):
            yield settings


def tune(searches: Sequence[Search], run: Try) -> None:
    """Run the trials of all arms. Afterwards each search has its best."""
    run([trial for search in searches for trial in search.trials])
    for _ in range(EXTENSIONS):
        if not any(search.at_edge for search in searches):
            return
        run([trial for search in searches if (trial := search.next_trial()) is not None])


def further(inner: float, edge: float) -> float | None:
    """One value beyond the edge: by the ratio of the two where both are positive, else by their distance."""
    if inner <= 0 or edge <= 0:
        return _like(2 * edge - inner, inner, edge)
    return _like(edge * edge / inner, inner, edge) or None


def halfway(one: float, other: float) -> float | None:
    """Between two values: their geometric mean where both are positive. None where no whole number lies between whole numbers."""
    return _like(math.sqrt(one * other) if one > 0 and other > 0 else (one + other) / 2, one, other)


def _like(value: float, *known: float) -> float | None:
    """A value as plain as those that it comes from: a whole number beside whole ones, four digits else; None where it is one of them."""
    plain = round(value) if all(isinstance(one, int) for one in known) else float(f"{value:.4g}")
    return None if plain in known or not math.isfinite(plain) else plain


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
