"""The optimizers that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind

Beta = Annotated[float, Field(ge=0, lt=1)]


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
        ),
        Component(
            Kind.optimizer,
            "sgd",
            SgdParams,
            "llmkit.plugins.optimizers.sgd:SGD",
            "stochastic gradient descent with momentum, plain or Nesterov's",
        ),
    ]
