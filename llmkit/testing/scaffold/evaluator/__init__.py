"""Declares `my.idea`, a component of kind evaluator.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    characters: PositiveInt = Field(16, description="characters of each document that are to be repeated", examples=[2])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.evaluator,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.evaluator.idea:Idea",
            summary="how often a model repeats a text word for word",
        )
    ]
