"""How much of each of n sources is in what is trained on. Source i has D_i tokens; its part is p_i, and together they are 1.

weights        p_i ~ w_i
epochs         p_i ~ e_i D_i: while source i is read e_i times, source j is read e_j times
temperature    p_i ~ D_i^(1/T): Arivazhagan et al. 2019 (arXiv 1907.05019), who take T = 5. T = 1 is as much as there is
even           p_i = 1/n, which temperature comes to as T grows
"""

from __future__ import annotations

from collections.abc import Mapping

from llmkit.core.errors import UserError
from llmkit.core.interfaces.mixer import Mixer, Size
from llmkit.plugins.mixers.components import EpochsParams, EvenParams, TemperatureParams, WeightsParams, mistaken_names


class Weights(Mixer):
    """In proportion to weights."""

    params: WeightsParams

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        _check_names("weights", self.params.weights, sizes)
        return _parts({name: self.params.weights[name] for name in sizes})


class Epochs(Mixer):
    """In proportion to tokens read."""

    params: EpochsParams

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        _check_names("epochs", self.params.epochs, sizes)
        return _parts({name: self.params.epochs[name] * size.tokens for name, size in sizes.items()})


class Temperature(Mixer):
    """In proportion to a power of the tokens."""

    params: TemperatureParams

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        # Of the largest: a power of the count itself would round where there are trillions.
        largest = max(size.tokens for size in sizes.values())
        return _parts({name: (size.tokens / largest) ** (1 / self.params.temperature) for name, size in sizes.items()})


class Even(Mixer):
    """The same of each."""

    params: EvenParams

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        return _parts(dict.fromkeys(sizes, 1.0))


def _check_names(field: str, given: Mapping[str, float], sizes: Mapping[str, Size]) -> None:
    for place, message in mistaken_names(field, given, sizes):
        raise UserError(f"data.mixer.{place}: {message}")


def _parts(amounts: Mapping[str, float]) -> dict[str, float]:
    total = sum(amounts.values())
    return {name: amount / total for name, amount in amounts.items()}
