"""The schedules that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


def _part_or_steps(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"{value} is neither a part of the run (below 1) nor a whole number of steps")
    return value


Duration = Annotated[float, Field(ge=0), AfterValidator(_part_or_steps)]
"""A part of the run where below 1, else a number of steps."""

Floor = Annotated[float, Field(ge=0, le=1)]


class ConstantParams(Params):
    """Warm-up, then the peak."""

    warmup: Duration = Field(0.0, description="how long the rate rises: a part of the run below 1, steps from 1 on")


class DecayParams(ConstantParams):
    """Warm-up, then down to the floor."""

    floor: Floor = Field(0.0, description="where the rate ends, as a part of the peak")


class WsdParams(DecayParams):
    """Warm-up, stable, decay."""

    decay: Duration = Field(0.2, description="how long the rate falls at the end: a part of the run below 1, steps from 1 on")
    shape: Literal["linear", "sqrt"] = Field("sqrt", description="of the fall: linear, or sqrt for 1 - sqrt(progress)")


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    code = "llmkit.plugins.schedules.warmup"
    return [
        Component(
            Kind.schedule, "cosine", DecayParams, f"{code}:Cosine", "warm-up, then half a cosine down to the floor (arXiv 1608.03983)"
        ),
        Component(
            Kind.schedule, "wsd", WsdParams, f"{code}:WarmupStableDecay", "warm-up, a plateau, a short fall (arXiv 2404.06395, 2405.18392)"
        ),
        Component(Kind.schedule, "linear", DecayParams, f"{code}:Linear", "warm-up, then a straight line down to the floor"),
        Component(Kind.schedule, "constant", ConstantParams, f"{code}:Constant", "warm-up, then the peak to the end"),
    ]
