"""The initialisations that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class NormalParams(Params):
    """One deviation for all, or one by role."""

    std: float = Field(0.02, gt=0, description="deviation of matrices, and of embedding and head unless they have their own")
    embedding_std: float | None = Field(None, gt=0, description="deviation of token and position tables; std unless given", examples=[1.0])
    head_std: float | None = Field(None, gt=0, description="deviation of an untied head; std unless given", examples=[0.01])


class GPT2Params(NormalParams):
    """One deviation, smaller where a branch ends."""


class MegatronParams(Params):
    """One deviation that follows from the width, smaller where a branch ends."""

    std: float | None = Field(
        None, gt=0, description="deviation of all but branch ends; sqrt(2 / (5 d_model)) unless given", examples=[0.02]
    )


class OLMoParams(Params):
    """Deviations that follow from each matrix's own inputs and its depth, cut off at three of them."""

    cutoff: float = Field(3.0, gt=0, description="how many deviations a value may lie away from zero")


class MuPParams(Params):
    """Maximal update parametrisation for Adam-like optimizers."""

    base_width: PositiveInt = Field(
        description="the d_model at which std and the learning rate were tuned; the spec is plain `normal` there", examples=[16]
    )
    std: float = Field(0.02, gt=0, description="deviation of every matrix at the base width, and of embedding and head at any width")


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(Kind.init, "normal", NormalParams, "llmkit.plugins.inits.normal:Normal", "one deviation for all, or one by role"),
        Component(
            Kind.init,
            "gpt2",
            GPT2Params,
            "llmkit.plugins.inits.normal:GPT2",
            "branch ends divided by sqrt(2 n_layers) (GPT-2, Radford 2019)",
        ),
        Component(
            Kind.init,
            "megatron",
            MegatronParams,
            "llmkit.plugins.inits.normal:Megatron",
            "sqrt(2 / (5 d_model)), branch ends divided by sqrt(2 n_layers) (arXiv 1909.08053, 1910.05895)",
        ),
        Component(
            Kind.init,
            "olmo",
            OLMoParams,
            "llmkit.plugins.inits.olmo:OLMo",
            "1 / sqrt(fan in), branch ends by depth, truncated (arXiv 2402.00838)",
        ),
        Component(
            Kind.init,
            "mup",
            MuPParams,
            "llmkit.plugins.inits.mup:MuP",
            "learning rates that carry over between widths (arXiv 2203.03466)",
            needs=frozenset({"elementwise"}),
        ),
    ]
