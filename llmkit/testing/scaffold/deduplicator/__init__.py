"""Declares `my.idea`, a component of kind deduplicator.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    words: PositiveInt = Field(50, description="documents whose first so many words are equal are one", examples=[5])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.deduplicator,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.deduplicator.idea:Idea",
            summary="documents that begin with the same words",
        )
    ]
