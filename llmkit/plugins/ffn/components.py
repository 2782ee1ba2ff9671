"""The feed-forward networks that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

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

    def widened(self, factor: int) -> Self:
        """The hidden width grows along, where it is given."""
        return self if self.d_ff is None else self.model_copy(update={"d_ff": self.d_ff * factor})


class GLUParams(Params):
    """Three matrices: a gate, what it gates, and the way back."""

    d_ff: PositiveInt | None = Field(
        None, description="hidden width; 8/3 d_model, rounded up to a multiple of 64, unless given: as many weights as an mlp"
    )
    bias: bool = Field(False, description="whether the projections have biases", examples=[True])

    def hidden(self, d_model: int) -> int:
        """The hidden width in a model of this width."""
        return self.d_ff or _up_to_64(8 * d_model, 3)

    def widened(self, factor: int) -> Self:
        """The hidden width grows along, where it is given."""
        return self if self.d_ff is None else self.model_copy(update={"d_ff": self.d_ff * factor})


class GeGLUParams(GLUParams):
    """A GLU whose gate goes through GELU."""

    approximate: Literal["none", "tanh"] = Field(
        "none", description="none: GELU with the exact normal distribution; tanh: its approximation, as in Gemma", examples=["tanh"]
    )


class MoEParams(Params):
    """A router, experts of which every token uses some, and what keeps the experts evenly used."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"n_experts": 8, "n_active": 3, "n_groups": 4, "n_active_groups": 2, "score": "sigmoid", "bias_rate": 0.001},
                {"shared_d_ff": 24, "shared_gate": True, "normalise": False},
                {"n_active": 1, "normalise": False},
            ]
        }
    )

    n_experts: PositiveInt = Field(description="experts that a token may be sent to", examples=[4])
    n_active: PositiveInt = Field(description="experts that each token is sent to (top-k)", examples=[2])
    d_ff: PositiveInt | None = Field(
        None,
        description="hidden width of one expert; 8/3 d_model / n_active, rounded up to a multiple of 64, unless given: "
        "a token then meets as many weights as in a swiglu",
        examples=[20],
    )
    activation: Activation = Field("silu", description="what the gate of an expert goes through, as in an mlp", examples=["gelu"])
    shared_d_ff: PositiveInt | None = Field(
        None,
        description="hidden width of a shared expert that every token uses (of all shared ones together); none unless given",
        examples=[24],
    )
    shared_gate: bool = Field(False, description="whether the shared expert is multiplied by sigmoid(w x) (Qwen2-MoE)")
    score: Literal["softmax", "sigmoid"] = Field(
        "softmax",
        description="how the router's logits become scores: softmax (Mixtral, Qwen3) or sigmoid (DeepSeek-V3)",
        examples=["sigmoid"],
    )
    normalise: bool = Field(
        True,
        description="whether the scores of a token's experts are divided by their sum; of softmax, this is softmax over the chosen alone",
    )
    weight_scale: float = Field(1.0, gt=0, description="factor on the weights of a token's experts (routed_scaling_factor)", examples=[2.5])
    n_groups: PositiveInt = Field(1, description="groups that the experts are divided into; a group's score is that of its two best")
    n_active_groups: PositiveInt = Field(1, description="groups from which a token's experts are chosen")
    balance_loss: float = Field(
        0.01,
        ge=0,
        description="coefficient of the load-balancing loss, which is 1 where experts are used evenly; 0 for none",
        examples=[0.0],
    )
    bias_rate: float | None = Field(
        None,
        ge=0,
        description="how far a step moves the bias that experts are chosen with (loss-free balancing); no bias unless given, 0 keeps it",
        examples=[0.001],
    )
    z_loss: float = Field(
        0.0, ge=0, description="coefficient of the squared log-sum-exp of the router's logits; 0 for none", examples=[0.001]
    )

    def hidden(self, d_model: int) -> int:
        """The hidden width of one expert in a model of this width."""
        return self.d_ff or _up_to_64(8 * d_model, 3 * self.n_active)

    def widened(self, factor: int) -> Self:
        """The hidden widths grow along, where they are given; the experts stay as many."""
        given = {"d_ff": self.d_ff, "shared_d_ff": self.shared_d_ff}
        return self.model_copy(update={name: width * factor for name, width in given.items() if width is not None})

    @model_validator(mode="after")
    def _every_token_has_its_experts(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterable[str]:
        if self.n_active > self.n_experts:
            yield f"n_active {self.n_active} is more than n_experts {self.n_experts}; a token uses an expert once"
        if self.n_active == 1 and self.normalise:
            yield "with n_active 1 a normalised weight is always 1, and no router learns; set normalise to false, or raise n_active"
        if self.n_experts % self.n_groups:
            yield f"n_experts {self.n_experts} cannot be divided into n_groups {self.n_groups}; change one of them"
        elif self.n_active_groups > self.n_groups:
            yield f"n_active_groups {self.n_active_groups} is more than n_groups {self.n_groups}; lower it"
        elif self.n_active > self.n_active_groups * (self.n_experts // self.n_groups):
            yield (
                f"n_active_groups {self.n_active_groups} of {self.n_experts // self.n_groups} experts each hold fewer than "
                f"n_active {self.n_active}; raise n_active_groups or lower n_active"
            )
        if self.shared_gate and self.shared_d_ff is None:
            yield "shared_gate needs a shared expert; give shared_d_ff or drop shared_gate"


def _up_to_64(numerator: int, denominator: int) -> int:
    """The quotient, rounded up to a multiple of 64."""
    return -(-numerator // (denominator * 64)) * 64


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
        Component(Kind.ffn, "geglu", GeGLUParams, "llmkit.plugins.ffn.glu:GeGLU", "down(gelu(gate(x)) * up(x)) (arXiv 2002.05202)"),
        Component(
            Kind.ffn, "reglu2", GLUParams, "llmkit.plugins.ffn.glu:ReGLU2", "down(relu(gate(x))^2 * up(x)) (arXiv 2002.05202, 2109.08668)"
        ),
        Component(
            Kind.ffn, "moe", MoEParams, "llmkit.plugins.ffn.moe:MoE", "a mixture of experts: every token uses its top k (arXiv 1701.06538)"
        ),
    ]
