"""torch's attention kernel under `vmap`: the models of a stack are further rows of its batch.

torch has no rule for its CPU kernel and calls it once for each model, with copies before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class RowsOfOneBatch(TorchFunctionMode):
    """Within it, `scaled_dot_product_attention` of stacked models is one call, whoever calls it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attend(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if query.dim() != 4 or dropout_p:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    y: Tensor = _Stacked.apply(query, key, value, attn_mask, is_causal, scale, enable_gqa)  # type: ignore[no-untyped-call]
    return y


class _Stacked(torch.autograd.Function):
    """Nothing but its rule for `vmap`, in which autograd sees the kernel itself."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None, grouped: bool) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=grouped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        return

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float | None,
        grouped: bool,
    ) -> tuple[Tensor, int]:
        size = info.batch_size
        q, k, v = (_rows(x, dim, size) for x, dim in zip((q, k, v), in_dims[:3], strict=True))
        batch = len(q) // size
        if mask is not None and (in_dims[3] is not None or (mask.dim() == 4 and len(mask) != 1)):
            stacked = mask.movedim(in_dims[3], 0) if in_dims[3] is not None else mask.expand(size, *mask.shape)
            mask = stacked.expand(size, batch, *stacked.shape[2:]).flatten(0, 1)
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=grouped)
        return torch.unflatten(y, 0, (size, batch)), 0


def _rows(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The rows of all models, (S B, ...); of what they share, as many copies as there are models."""
    return (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
