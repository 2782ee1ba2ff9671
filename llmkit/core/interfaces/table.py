"""Gradients of tables, weights with a row for every word of the vocabulary, that add up in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TableGradient:
    """What the gradient of a table adds up in: fp32, beside autograd, in memory that stays from step to step.

    A table is the largest weight of a small model, and autograd makes its gradient anew wherever it is used, in the dtype of the weight:
    of an embedding with a zero for every word that a batch does not have. A training engine lays one of these at a weight; who computes
    the weight's gradient asks `gradient_in_place`, adds his part to it, and gives autograd none: `torch.autograd.grad` finds no gradient
    of such a weight, and whatever else it asks for, the weight's is added.

    parameter  what the optimizer updates: the weight itself, or its fp32 master
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._spare: Tensor | None = None

    def lend(self) -> Tensor:
        """Memory for a whole gradient, fp32, whose values are whatever was there. `add` takes it back."""
        lent, self._spare = self._spare, None
        return torch.empty_like(self.parameter, dtype=torch.float32) if lent is None else lent

    def add(self, gradient: Tensor) -> None:
        """Add a whole gradient, (V, D) in fp32, which from then on is not the caller's."""
        if self.parameter.grad is None:
            self.parameter.grad = gradient
            return
        self.parameter.grad.add_(gradient)
        self._spare = gradient

    def add_rows(self, ids: Tensor, slopes: Tensor) -> None:
        """Add what belongs to some rows: ids (N,) with repetitions, slopes (N, D) in any float dtype, which add up in fp32."""
        if self.parameter.grad is None:
            self.parameter.grad = self.lend().zero_()
        self.parameter.grad.index_add_(0, ids, slopes.float())

    def drop(self) -> None:
        """Forget the gradient, and keep its memory for the next one."""
        if self.parameter.grad is not None:
            self._spare, self.parameter.grad = self.parameter.grad, None


def gradient_in_place(weight: Tensor) -> TableGradient | None:
    """What a weight's gradient adds up in; None where it is autograd's, as everywhere but in training on a CPU."""
    return getattr(weight, "table_gradient", None)
