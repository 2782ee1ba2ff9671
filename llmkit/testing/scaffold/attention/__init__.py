"""Declares `my.idea`, a component of kind attention.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    n_heads: PositiveInt = Field(description="heads, which share the width of the model", examples=[4])
    window: PositiveInt | None = Field(None, description="how many tokens a token sees, its own included; all unless given", examples=[3])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.attention,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.attention.idea:Idea",
            summary="multi-head attention",
            offers=frozenset({"rotate", "bias"}),
        )
    ]
