"""The norms that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class RMSNormParams(Params):
    """Root-mean-square normalisation, with a scale unless refused."""

    eps: float = Field(1e-6, gt=0, description="added to the mean square, so that a row of zeros stays finite")
    scale: bool = Field(True, description="whether each channel is multiplied by a learned scale", examples=[False])
    zero_centred: bool = Field(
        False, description="the scale is 1 + weight and weight starts at zero, so that weight decay pulls it to 1 (Gemma)", examples=[True]
    )

    @model_validator(mode="after")
    def _what_is_centred_exists(self) -> Self:
        if self.zero_centred and not self.scale:
            raise ValueError("zero_centred is about the scale, and scale is false; remove one of them")
        return self


class LayerNormParams(Params):
    """Layer normalisation with a scale and a bias, unless refused; without either it has no parameters (OLMo 1)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scale": False, "bias": False}]})

    eps: float = Field(1e-5, gt=0, description="added to the variance, so that a constant row stays finite")
    bias: bool = Field(True, description="whether a learned bias is added to each channel", examples=[False])
    scale: bool = Field(True, description="whether each channel is multiplied by a learned scale")


class DynamicTanhParams(Params):
    """A learned squashing instead of a normalisation."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"alpha": 0.8, "scale": False, "bias": False}]})

    alpha: float = Field(0.5, gt=0, description="the slope that training begins with; the larger the model, the smaller it is to be")
    scale: bool = Field(True, description="whether each channel is multiplied by a learned scale")
    bias: bool = Field(True, description="whether a learned bias is added to each channel")


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
        Component(
            Kind.norm,
            "dyt",
            DynamicTanhParams,
            "llmkit.plugins.norms.dyt:DynamicTanh",
            "tanh(alpha x) with a learned alpha, scaled and shifted (arXiv 2503.10622)",
        ),
        Component(Kind.norm, "none", NoNormParams, "llmkit.plugins.norms.identity:NoNorm", "x as it is"),
    ]
