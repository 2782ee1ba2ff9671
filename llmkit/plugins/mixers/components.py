"""The mixers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component
from llmkit.core.hooks import hookimpl


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return []
