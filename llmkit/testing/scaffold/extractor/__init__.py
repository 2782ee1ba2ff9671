"""Declares `my.idea`, a component of kind extractor.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    headings: bool = Field(True, description="whether headings are part of the text", examples=[False])


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.extractor,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.extractor.idea:Idea",
            summary="the paragraphs of a page, and its headings",
        )
    ]
