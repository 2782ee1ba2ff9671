"""Declares `my.idea`, a component of kind filter.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, FilterParams, Kind, hookimpl


class IdeaParams(FilterParams):
    """Parameters of `my.idea`."""

    most: float = Field(0.5, ge=0, le=1, description="a document with a larger part of capital letters is dropped", examples=[0.2])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.filter,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.filter.idea:Idea",
            summary="drops what is written in capitals",
        )
    ]
