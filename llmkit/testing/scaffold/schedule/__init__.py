"""Declares `my.idea`, a component of kind schedule.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    warmup: PositiveInt = Field(10, description="steps until the peak", examples=[1])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.schedule,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.schedule.idea:Idea",
            summary="up in a straight line, then down with 1 / sqrt(step)",
        )
    ]
