"""Declares `my.idea`, a component of kind init.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    gain: float = Field(1.0, gt=0, description="factor on every deviation", examples=[0.5])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.init,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.init.idea:Idea",
            summary="normal, with the deviation gain / sqrt(fan in)",
        )
    ]
