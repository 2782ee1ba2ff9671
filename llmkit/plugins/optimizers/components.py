"""The optimizers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind

Beta = Annotated[float, Field(ge=0, lt=1)]
Role = Literal["matrix", "embedding", "head", "vector"]
Rate = Annotated[float, Field(gt=0)]
WHOLE = frozenset({"whole_matrices"})
"""What an optimizer offers whose update of a matrix depends on all of it."""

ELEMENTWISE = frozenset({"elementwise"})
"""What an optimizer offers whose update moves every weight by about its learning rate, whatever the size of its matrix."""

STACKABLE = frozenset({"stackable"})
"""What an optimizer offers that updates parameters of several models, stacked along a first dimension, as it would each model's own."""


class OptimizerParams(Params):
    """What every optimizer here takes: which parameters decay is a matter of their role."""

    decay_embeddings: bool = Field(False, description="whether token and position tables decay as well")
    decay_vectors: bool = Field(False, description="whether norm scales and biases decay as well")


class AdamWParams(OptimizerParams):
    """Adam with decoupled weight decay."""

    lr: float = Field(1e-3, gt=0, description="the peak learning rate, which the schedule multiplies")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="decay of the running means of the gradient and of its square")
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")
    weight_decay: float = Field(0.1, ge=0, description="each step takes lr * weight_decay of a matrix away, apart from the gradient")
    lr_by_role: dict[Role, Rate] = Field(
        {},
        description="peak learning rates of some roles in place of `lr`, not factors on it: "
        "matrix, embedding (the head too where it is tied), head, vector (norm scales and biases)",
        examples=[{"embedding": 3e-3, "vector": 2e-3}],
    )


class SgdParams(OptimizerParams):
    """Stochastic gradient descent with momentum."""

    lr: float = Field(0.1, gt=0, description="the peak learning rate, which the schedule multiplies")
    momentum: float = Field(0.9, ge=0, lt=1, description="how much of the last update's direction stays; 0 for plain descent")
    nesterov: bool = Field(False, description="whether the gradient is looked up ahead of the momentum; needs momentum")
    weight_decay: float = Field(0.0, ge=0, description="weight_decay * w is added to the gradient of a matrix w (an L2 penalty)")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; raise momentum or drop nesterov")
        return self


class MuonParams(OptimizerParams):
    """Orthogonalised momentum for matrices, AdamW for tables, an untied head, scales and biases."""

    lr: float = Field(1e-3, gt=0, description="the peak learning rate of matrices, which the schedule multiplies; about 0.02 with spectral")
    adamw_lr: float | None = Field(None, gt=0, description="the peak learning rate of all else; `lr` unless given", examples=[3e-4])
    momentum: float = Field(0.95, ge=0, lt=1, description="decay of the running mean of a matrix's gradient")
    nesterov: bool = Field(True, description="whether the gradient is looked up ahead of the momentum", examples=[False])
    ns_steps: int = Field(5, ge=1, le=20, description="Newton-Schulz iterations; fewer leave small singular values small")
    scaling: Literal["rms", "spectral"] = Field(
        "rms",
        description="what an update is multiplied by. rms: 0.2 sqrt(max(rows, cols)), the size of AdamW's, so that its lr serves; "
        "spectral: sqrt(max(1, rows / cols)), which wants an adamw_lr of its own",
    )
    weight_decay: float = Field(0.1, ge=0, description="each step takes lr * weight_decay of a matrix away, apart from the gradient")
    adamw_betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="of AdamW, for all that is no matrix")
    adamw_eps: float = Field(1e-8, gt=0, description="of AdamW, for all that is no matrix")

    model_config = ConfigDict(json_schema_extra={"examples": [{"scaling": "spectral", "lr": 0.02, "adamw_lr": 3e-4}]})

    @model_validator(mode="after")
    def _spectral_has_an_adamw_lr(self) -> Self:
        if self.scaling == "spectral" and self.adamw_lr is None:
            raise ValueError("scaling spectral makes lr another quantity than AdamW's; give adamw_lr as well (3e-4), or take scaling rms")
        return self


class LionParams(OptimizerParams):
    """The sign of an interpolated momentum."""

    lr: float = Field(1e-4, gt=0, description="the peak learning rate, which the schedule multiplies; 3 to 10 times smaller than AdamW's")
    betas: tuple[Beta, Beta] = Field((0.9, 0.99), description="how much of the momentum is in the update, and how much of it stays")
    weight_decay: float = Field(1.0, ge=0, description="each step takes lr * weight_decay of a matrix away; 3 to 10 times AdamW's")


class AdafactorParams(OptimizerParams):
    """Adam without its first moment, and with the second in rows and columns."""

    lr: float = Field(1e-2, gt=0, description="the peak learning rate, which the schedule multiplies; a part of the weights' own size")
    relative_step: bool = Field(True, description="whether lr is a part of the root mean square of the parameter itself", examples=[False])
    decay_rate: float = Field(-0.8, lt=0, description="the second moment averages with 1 - step^decay_rate: longer and longer")
    eps: float = Field(1e-30, gt=0, description="added to the squared gradient")
    clip_threshold: float = Field(1.0, gt=0, description="the root mean square of an update, before lr, is at most this")
    min_scale: float = Field(1e-3, gt=0, description="a parameter of smaller root mean square learns as if it had this one")
    momentum: float = Field(0.0, ge=0, lt=1, description="how much of the last update stays; 0 for no state of it", examples=[0.9])
    weight_decay: float = Field(0.0, ge=0, description="each step takes lr * weight_decay of a matrix away, apart from the gradient")


class ScheduleFreeParams(OptimizerParams):
    """AdamW that averages its weights in place of lowering its learning rate; for the schedule `constant`, with a warm-up."""

    lr: float = Field(2.5e-3, gt=0, description="the peak learning rate, which the schedule multiplies; 1 to 10 times AdamW's")
    betas: tuple[Annotated[float, Field(gt=0, lt=1)], Beta] = Field(
        (0.9, 0.95), description="how near the gradient is taken to the average of the weights, and the decay of the mean of its square"
    )
    eps: float = Field(1e-8, gt=0, description="added to the root of the second moment")
    weight_decay: float = Field(0.1, ge=0, description="each step takes lr * weight_decay of a matrix away, apart from the gradient")


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    return [
        Component(
            Kind.optimizer,
            "adamw",
            AdamWParams,
            "llmkit.plugins.optimizers.adamw:AdamW",
            "Adam with decoupled weight decay (arXiv 1711.05101)",
            offers=ELEMENTWISE | STACKABLE,
        ),
        Component(
            Kind.optimizer,
            "sgd",
            SgdParams,
            "llmkit.plugins.optimizers.sgd:SGD",
            "stochastic gradient descent with momentum, plain or Nesterov's",
            offers=STACKABLE,
        ),
        Component(
            Kind.optimizer,
            "muon",
            MuonParams,
            "llmkit.plugins.optimizers.muon:Muon",
            "orthogonalised momentum for matrices, AdamW for all else (Jordan 2024, arXiv 2502.16982)",
            offers=WHOLE | STACKABLE,
        ),
        Component(
            Kind.optimizer,
            "lion",
            LionParams,
            "llmkit.plugins.optimizers.lion:Lion",
            "the sign of an interpolated momentum (arXiv 2302.06675)",
            offers=ELEMENTWISE | STACKABLE,
        ),
        Component(
            Kind.optimizer,
            "adafactor",
            AdafactorParams,
            "llmkit.plugins.optimizers.adafactor:Adafactor",
            "Adam's second moment in rows and columns, almost without state (arXiv 1804.04235)",
            offers=WHOLE,
        ),
        Component(
            Kind.optimizer,
            "schedule_free",
            ScheduleFreeParams,
            "llmkit.plugins.optimizers.schedule_free:ScheduleFree",
            "AdamW that averages its weights in place of lowering its learning rate (arXiv 2405.15682)",
            offers=ELEMENTWISE | STACKABLE,
        ),
    ]
