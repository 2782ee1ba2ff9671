"""Declares `my.idea`, a component of kind objective.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    smoothing: float = Field(0.1, ge=0, lt=1, description="part of the target that is spread over the whole vocabulary", examples=[0.0])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.objective,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.objective.idea:Idea",
            summary="cross-entropy with a part of the target spread over the vocabulary",
        )
    ]
