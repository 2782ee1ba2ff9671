"""Initialisation: how large the first values of the matrices are, and what goes with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmkit.core.interfaces.optimizer import Role


class Weight(NamedTuple):
    """A parameter of two or more dimensions that is about to get its first value.

    name      its saved name, such as `blocks.3.attention.output.weight`
    shape     (..., out, in): stacked experts have a leading dimension
    role      matrix, embedding or head
    residual  whether it writes into the residual stream: the last projection of a branch
    layer     index of its block, or None outside the blocks
    n_layers  blocks in the model
    d_model   width of the residual stream
    """

    name: str
    shape: torch.Size
    role: Role
    residual: bool
    layer: int | None
    n_layers: int
    d_model: int

    @property
    def fan_in(self) -> int:
        """How many numbers each of its outputs sums over."""
        return int(self.shape[-1])


class Init:
    """First values of matrices, embeddings and heads, built with `(params)`. Only `std` is to be written.

    Vectors are not asked about: a bias starts at zero and a scale at one, unless the module that owns one says otherwise
    by `initial(name, shape, generator)`, which comes before everything here. What a method scales besides the first values
    (muP's learning rates and logits) it says with `learning_rate` and `logit_scale`.

    A whole one, with the component that its plugin's hook returns:

        class LeCunParams(Params):
            gain: float = Field(1.0, gt=0, description="factor on every deviation")

        class LeCun(Init):
            def std(self, weight: Weight) -> float:
                return self.params.gain * weight.fan_in**-0.5

        Component(Kind.init, "acme.lecun", LeCunParams, "llmkit_acme.inits:LeCun", "1 / sqrt(fan in)")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def std(self, weight: Weight) -> float:
        """The deviation of its normal distribution; above 0."""
        raise NotImplementedError

    def draw(self, weight: Weight, generator: torch.Generator) -> Tensor:
        """The value, fp32 on the CPU: normal with `std(weight)`. May be left out. Draw from the generator alone."""
        return torch.randn(weight.shape, generator=generator) * self.std(weight)

    def learning_rate(self, weight: Weight) -> float:
        """A factor on the optimizer's learning rate for this weight. May be left out: 1."""
        return 1.0

    def logit_scale(self, d_model: int) -> float:
        """A factor on the logits of a model of this width. May be left out: 1."""
        return 1.0
