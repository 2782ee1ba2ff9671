"""Declares `my.idea`, a component of kind norm.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    eps: float = Field(1e-6, gt=0, description="added to the mean square, so that a row of zeros stays finite", examples=[1e-3])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.norm,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.norm.idea:Idea",
            summary="x / rms(x), with a scale for every channel",
        )
    ]
