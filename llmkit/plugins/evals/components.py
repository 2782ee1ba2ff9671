"""The evaluators that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class PerplexityParams(Params):
    """Perplexity takes nothing."""


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(
            Kind.evaluator,
            "perplexity",
            PerplexityParams,
            "llmkit.plugins.evals.perplexity:Perplexity",
            "loss, perplexity and bits per byte of the validation text, with standard errors",
        )
    ]
