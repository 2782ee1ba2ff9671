"""The filters that llmkit ships: those of published rules, and those that look something up or learn. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component
from llmkit.core.hooks import hookimpl
from llmkit.plugins.filters import learned_components, rule_components


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [*rule_components.COMPONENTS, *learned_components.COMPONENTS]
