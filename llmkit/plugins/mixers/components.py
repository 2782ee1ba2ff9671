"""The mixers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.interfaces.mixer import MixerParams
from llmkit.core.kinds import Kind
from llmkit.core.problems import suggestion


def _not_all_zero(value: dict[str, float]) -> dict[str, float]:
    if not any(value.values()):
        raise ValueError("no source has any part; give one of them a number above 0")
    return value


BySource = Annotated[dict[str, Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]], AfterValidator(_not_all_zero)]
"""A number of each source."""


def mistaken_names(field: str, given: Mapping[str, float], sources: Collection[str]) -> Iterator[tuple[str, str]]:
    """Where a mapping by source names another than there are, or leaves one out."""
    for name in given:
        if name not in sources:
            yield f"{field}.{name}", f"no source is called {name!r}; {suggestion(name, sources)}"
    missing = [name for name in sources if name not in given]
    if missing:
        names = ", ".join(map(repr, missing))
        yield field, f"has nothing for {names} of data.sources; give each a number, 0 where it is not to be trained on"


class WeightsParams(MixerParams):
    """A weight for each source."""

    weights: BySource = Field(
        description="source -> its weight: what is trained on is of each in proportion to it, however much there is",
        examples=[{"books": 2, "web": 1, "code": 0.5}, {"books": 0, "web": 1, "code": 0}],
    )

    def check_sources(self, sources: Collection[str]) -> Iterable[tuple[str, str]]:
        return mistaken_names("weights", self.weights, sources)


class EpochsParams(MixerParams):
    """How often each source is read for each time that another is."""

    epochs: BySource = Field(
        description="source -> how often it is read through, relative to the others: with 2 and 1 the first is read twice while the "
        "second is read once",
        examples=[{"books": 2, "web": 1, "code": 4}],
    )

    def check_sources(self, sources: Collection[str]) -> Iterable[tuple[str, str]]:
        return mistaken_names("epochs", self.epochs, sources)


class TemperatureParams(Params):
    """How far the sources are evened out."""

    temperature: float = Field(
        5.0,
        ge=1,
        allow_inf_nan=False,
        description="a source has a part in proportion to its tokens to the power of 1/temperature: 1 as much as there is of each, "
        "larger ones nearer to even parts",
        examples=[1.0, 3.3],
    )


class EvenParams(Params):
    """Nothing to choose."""


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    code = "llmkit.plugins.mixers.proportions"
    return [
        Component(Kind.mixer, "weights", WeightsParams, f"{code}:Weights", "each source in proportion to a weight of its own"),
        Component(Kind.mixer, "epochs", EpochsParams, f"{code}:Epochs", "each source read so many times as often as another"),
        Component(
            Kind.mixer, "temperature", TemperatureParams, f"{code}:Temperature", "by size, evened out by a temperature (arXiv 1907.05019)"
        ),
        Component(Kind.mixer, "even", EvenParams, f"{code}:Even", "as much of every source"),
    ]
