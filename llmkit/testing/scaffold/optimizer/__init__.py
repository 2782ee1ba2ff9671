"""Declares `my.idea`, a component of kind optimizer.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    lr: float = Field(1e-3, gt=0, description="the size of every update at the peak of the schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="how much of the last direction stays", examples=[0.0])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.optimizer,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.optimizer.idea:Idea",
            summary="steps in the direction of the averaged gradient's sign",
        )
    ]
