"""Declares `my.idea`, a component of kind ffn.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    ratio: PositiveInt = Field(4, description="inner channels for each channel of the model", examples=[2])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.ffn,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.ffn.idea:Idea",
            summary="two projections with a GELU in between",
        )
    ]
