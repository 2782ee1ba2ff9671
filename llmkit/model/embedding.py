"""The embedding: tokens to vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.table import gradient_in_place


class Embedding(nn.Embedding):
    """ids (...) int64 -> (..., D): a row of the table each. Where training says so, the gradient is added to the rows of `ids` alone."""

    def forward(self, input: Tensor) -> Tensor:
        """ids (...) -> (..., D)."""
        if not torch.is_grad_enabled() or gradient_in_place(self.weight) is None:
            return super().forward(input)
        found: Tensor = _Rows.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return found


class _Rows(torch.autograd.Function):
    """The rows of a table whose gradient adds up in place."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.gradient = gradient_in_place(table)
        return torch.nn.functional.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[None, None]:
        (ids,) = ctx.saved_tensors
        ctx.gradient.add_rows(ids.flatten(), slopes.flatten(0, -2))
        return None, None
