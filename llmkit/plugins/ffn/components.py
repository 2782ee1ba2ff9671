"""The feed-forward networks that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind

Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "silu"]


class MLPParams(Params):
    """Two matrices and an activation between them."""

    d_ff: PositiveInt | None = Field(None, description="hidden width; 4 d_model unless given")
    activation: Activation = Field(
        "gelu",
        description="gelu, gelu_tanh (its approximation), relu, relu2 (squared) or silu",
        examples=["gelu_tanh", "relu", "relu2", "silu"],
    )
    bias: bool = Field(False, description="whether the projections have biases", examples=[True])

    def hidden(self, d_model: int) -> int:
        """The hidden width in a model of this width."""
        return self.d_ff or 4 * d_model


class GLUParams(Params):
    """Three matrices: a gate, what it gates, and the way back."""

    d_ff: PositiveInt | None = Field(
        None, description="hidden width; 8/3 d_model, rounded up to a multiple of 64, unless given: as many weights as an mlp"
    )
    bias: bool = Field(False, description="whether the projections have biases", examples=[True])

    def hidden(self, d_model: int) -> int:
        """The hidden width in a model of this width."""
        return self.d_ff or -(-8 * d_model // (3 * 64)) * 64


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(
            Kind.ffn,
            "mlp",
            MLPParams,
            "llmkit.plugins.ffn.mlp:MLP",
            "down(activation(up(x))), the original Transformer's (arXiv 1706.03762)",
        ),
        Component(Kind.ffn, "swiglu", GLUParams, "llmkit.plugins.ffn.glu:SwiGLU", "down(silu(gate(x)) * up(x)) (arXiv 2002.05202)"),
        Component(Kind.ffn, "geglu", GLUParams, "llmkit.plugins.ffn.glu:GeGLU", "down(gelu(gate(x)) * up(x)) (arXiv 2002.05202)"),
    ]
