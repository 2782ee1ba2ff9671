"""The objectives that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from pydantic import Field

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class CausalParams(Params):
    """Next-token prediction, with what may be added to its cross-entropy."""

    z_loss: float = Field(
        0.0, ge=0, description="coefficient of (ln sum exp logits)^2 for every counted token; PaLM's is 1e-4", examples=[1e-2]
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="part of every target that is spread evenly over the whole vocabulary", examples=[0.1]
    )


class MultiTokenParams(CausalParams):
    """Next-token prediction, and beside it the tokens that follow the next one."""

    n_future: int = Field(1, ge=1, description="how many tokens beyond the next one are predicted as well", examples=[3])
    weight: float = Field(0.3, gt=0, description="of the mean of their losses beside the next token's, which weighs 1")


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
        ),
        Component(
            Kind.objective,
            "multi_token",
            MultiTokenParams,
            "llmkit.plugins.objectives.multi_token:MultiToken",
            "the next token, and the ones after it by heads of their own (arXiv 2404.19737)",
        ),
    ]
