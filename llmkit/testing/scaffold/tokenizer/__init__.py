"""Declares `my.idea`, a component of kind tokenizer.

Imported whenever llmkit starts, so it imports no torch: the code is named by `target`, and imported when something is built.
"""

from __future__ import annotations

from pydantic import Field

from llmkit import Component, Kind, Params, hookimpl


class IdeaParams(Params):
    """Parameters of `my.idea`."""

    end: str = Field("<|endoftext|>", description="how the end of a text is written", min_length=1)

    @property
    def vocab_size(self) -> int:
        """Ids that the model has rows for: sixteen digits, and the end of a text."""
        return 17


@hookimpl
def llmkit_components() -> list[Component]:
    """What this package adds to llmkit."""
    return [
        Component(
            kind=Kind.tokenizer,
            name="my.idea",
            params=IdeaParams,
            target="llmkit.testing.scaffold.tokenizer.idea:Idea",
            summary="two ids a byte, one for each hexadecimal digit",
        )
    ]
