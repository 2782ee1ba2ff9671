"""Declares `my.idea`, a component of kind position.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    slope: float = Field(0.5, gt=0, description="what the first head's score loses with every token of distance", examples=[0.1])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.position,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.position.idea:Idea",
            summary="a penalty on distance, a head's own each",
            needs=frozenset({"bias"}),
            offers=frozenset({"bias"}),
        )
    ]
