"""The grouped matrix product: rows sorted by group, each group with a matrix of its own, and no shape that depends on values.

    y[i] = weight[g] x[i]        for the rows i of group g, ends[g - 1] <= i < ends[g]

x (N, D), weight (G, F, D), ends (G,) int32 -> y (N, F). N D F multiply-adds, whatever the groups.

It is torch's `grouped_mm`, with what that lacks: in torch 2.13 it has no meta kernel for fp32, so that it can neither be compiled
nor counted, and it refuses rows that are no multiple of 16 bytes. As an operator of its own it is one node of a graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPED_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


@torch.library.custom_op("llmkit::grouped_linear", mutates_args=())
def grouped_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x (N, D) sorted by group, weight (G, F, D), ends (G,) int32, the last of them N -> (N, F)."""
    matrices = weight.transpose(1, 2)
    # torch's visits every group: where rows are fewer than groups (decoding), only those that have any are worth it, unless asking is dear.
    if _supported(x, weight) and (x.is_cuda or x.shape[0] >= weight.shape[0]):
        return F.grouped_mm(x, matrices, offs=ends)
    y = x.new_empty(x.shape[0], weight.shape[1])
    for group, (begin, end) in enumerate(_spans(ends)):
        if end > begin:
            torch.mm(x[begin:end], matrices[group], out=y[begin:end])
    return y


@torch.library.custom_op("llmkit::grouped_outer", mutates_args=())
def grouped_outer(y: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    """The sums of outer products: y (N, F), x (N, D), both sorted by group -> (G, F, D), zero for a group without rows."""
    if _supported(x, y):
        return F.grouped_mm(y.transpose(0, 1), x, offs=ends)
    sums = y.new_zeros(ends.shape[0], y.shape[1], x.shape[1])
    for group, (begin, end) in enumerate(_spans(ends)):
        if end > begin:
            torch.mm(y[begin:end].transpose(0, 1), x[begin:end], out=sums[group])
    return sums


@grouped_linear.register_fake
def _(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@grouped_outer.register_fake
def _(y: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    return y.new_empty(ends.shape[0], y.shape[1], x.shape[1])


def _remember(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight, ends = ctx.saved_tensors  # type: ignore[attr-defined]
    of_x, of_weight, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
    gradient = gradient.contiguous()
    return (
        grouped_linear(gradient, weight.transpose(1, 2), ends) if of_x else None,
        grouped_outer(gradient, x, ends) if of_weight else None,
        None,
    )


grouped_linear.register_autograd(_backward, setup_context=_remember)


def _supported(*operands: Tensor) -> bool:
    """Whether torch's product takes these: a dtype that it knows, and strides of whole 16 bytes."""
    return all(
        operand.dtype in GROUPED_DTYPES and not any(stride != 1 and stride * operand.element_size() % 16 for stride in operand.stride())
        for operand in operands
    )


def _spans(ends: Tensor) -> list[tuple[int, int]]:
    """Where each group's rows begin and end."""
    places = ends.tolist()
    return list(zip([0, *places], places, strict=False))
