"""The objectives that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class CausalParams(Params):
    """Next-token prediction takes nothing."""


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(
            Kind.objective,
            "causal",
            CausalParams,
            "llmkit.plugins.objectives.causal:Causal",
            "next-token prediction: cross-entropy of every counted token",
        )
    ]
