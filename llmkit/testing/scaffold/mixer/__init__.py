"""Declares `my.idea`, a component of kind mixer.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    floor: float = Field(0.1, ge=0, le=0.1, description="the least part that a source has", examples=[0.0])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.mixer,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.mixer.idea:Idea",
            summary="by size, and no source below a floor",
        )
    ]
