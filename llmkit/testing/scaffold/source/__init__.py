"""Declares `my.idea`, a component of kind source.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    largest: PositiveInt = Field(99, description="the largest number that is added", examples=[9])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.source,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.source.idea:Idea",
            summary="sums of two numbers, written out",
        )
    ]
