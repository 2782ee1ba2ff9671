"""The norms that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from pydantic import Field

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class RMSNormParams(Params):
    """Root-mean-square normalisation with a scale."""

    eps: float = Field(1e-6, gt=0, description="added to the mean square, so that a row of zeros stays finite")


class LayerNormParams(Params):
    """Layer normalisation with a scale and, unless refused, a bias."""

    eps: float = Field(1e-5, gt=0, description="added to the variance, so that a constant row stays finite")
    bias: bool = Field(True, description="whether there is a bias beside the scale", examples=[False])


class NoNormParams(Params):
    """No normalisation."""


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(Kind.norm, "rmsnorm", RMSNormParams, "llmkit.plugins.norms.rmsnorm:RMSNorm", "x / rms(x), scaled (arXiv 1910.07467)"),
        Component(
            Kind.norm,
            "layernorm",
            LayerNormParams,
            "llmkit.plugins.norms.layernorm:LayerNorm",
            "(x - mean) / deviation, scaled and shifted (arXiv 1607.06450)",
        ),
        Component(Kind.norm, "none", NoNormParams, "llmkit.plugins.norms.identity:NoNorm", "x as it is"),
    ]
