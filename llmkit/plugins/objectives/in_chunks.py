"""A loss over the rows of hidden states and its gradients, chunk by chunk of rows, in three ways: which one a head and a machine allow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmkit.core.interfaces import kernel
from llmkit.core.interfaces.table import gradient_in_place
from llmkit.plugins.objectives.rows_loss import RowsLoss

CHUNK = 1 << 24
CHUNK_FP32 = 1 << 25
"""Logits that exist at once: few beside the activations of a model, and rows enough for fast matrix products, of which fp32's want more."""

ROWS = 1 << 12
"""Rows of the head's gradient that are multiplied at once where its dtype is not the one that it adds up in."""

SOURCE = Path(__file__).with_name("head_cross_entropy.cpp")

WIDE, HIGH = 64, 1 << 10
"""Rows that the kernel works on together, of which a chunk has a multiple; and the most, beyond which its sums leave the cache."""

KERNEL = 1 << 25
"""Exponentials that it keeps of a chunk. With fewer, the gradient of the head is read and written more often."""


class InChunks(torch.autograd.Function):
    """The terms' sum and each of them, with the gradients of the hidden states and of the head's weights made on the way."""

    @staticmethod
    def forward(
        ctx: Any, of_rows: RowsLoss, head: nn.Module, h: Tensor, targets: Tensor, counts: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        of_h, of_weights = ctx.needs_input_grad[2], any(ctx.needs_input_grad[5:])
        slopes = _way(of_rows, head, h)(of_rows, head, h, weights if of_weights else (), of_h)
        summed = [slopes.chunk(part, targets[part], counts[part]) for part in slopes.chunks()]
        ctx.slopes, ctx.count = slopes, len(weights)
        values = [torch.stack(parts).sum() for parts in zip(*summed, strict=True)]
        ctx.mark_non_differentiable(*values)
        return torch.stack(values).sum(), *values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            raise RuntimeError("the gradients of this loss were given out already; run the forward pass again")
        h, weights = slopes.times(upstream)
        return None, None, h, None, None, *(weights or [None] * ctx.count)


def _way(of_rows: RowsLoss, head: nn.Module, h: Tensor) -> type[_Slopes]:
    if not _is_product(head, h):
        return _OfAnyHead
    return _ByKernel if _is_for_the_kernel(of_rows, head, h) else _OfProduct


class _Slopes:
    """Gradients of a sum with respect to the hidden states and the head's weights, as the chunks come. They add up in fp32."""

    def __init__(self, of_rows: RowsLoss, head: nn.Module, h: Tensor, weights: Sequence[Tensor], of_h: bool) -> None:
        self.of_rows, self.head, self.h, self.weights = of_rows, head, h, list(weights)
        self.of_h = torch.empty_like(h) if of_h else None
        self.of_weights = [self._memory(weight) for weight in self.weights]

    def chunks(self) -> list[slice]:
        """All rows in chunks, as even as can be, so that few are of another size."""
        return _even_chunks(len(self.h), self._numbers() // self.of_rows.vocab_size, 1)

    def chunk(self, part: slice, targets: Tensor, counts: Tensor) -> list[Tensor]:
        """The terms of a chunk, whose share of the gradients is added."""
        raise NotImplementedError

    def times(self, upstream: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """All of them times a scalar, in the dtypes of what they belong to; None for what adds up in place. They are as large as the
        head: nothing of their size is made unless the dtype is another."""
        h = None if self.of_h is None else self.of_h.mul_(upstream)
        given: list[Tensor | None] = []
        for gradient, weight in zip(self.of_weights, self.weights, strict=True):
            gradient.mul_(upstream)
            table = gradient_in_place(weight)
            if table is not None:
                table.add(gradient)
            given.append(gradient.to(weight.dtype) if table is None else None)
        return h, given

    def _memory(self, weight: Tensor) -> Tensor:
        """What the gradient of a weight adds up in."""
        return _lent(weight).zero_()

    def _numbers(self) -> int:
        return CHUNK_FP32 if self.h.dtype is torch.float32 else CHUNK


class _OfAnyHead(_Slopes):
    """Through the graph from the hidden states of a chunk to its logits."""

    def chunk(self, part: slice, targets: Tensor, counts: Tensor) -> list[Tensor]:
        x = self.h[part].detach().requires_grad_(self.of_h is not None)
        wanted = ([] if self.of_h is None else [x]) + self.weights
        with torch.set_grad_enabled(bool(wanted)):
            y = self.head(x)
        # Written over; and what the head keeps of its result for its gradient stays.
        slope = y.detach().clone()
        terms: list[Tensor] = self.of_rows(slope, targets, counts)
        if wanted:
            self._add(part, list(torch.autograd.grad(y, wanted, slope)))
        return terms

    def _add(self, part: slice, found: list[Tensor]) -> None:
        if self.of_h is not None:
            self.of_h[part] = found.pop(0)
        for so_far, gradient in zip(self.of_weights, found, strict=True):
            so_far.add_(gradient)


class _OfProduct(_Slopes):
    """Of logits that are W h and nothing else: no graph, and no second tensor as large as the gradient of W."""

    def chunk(self, part: slice, targets: Tensor, counts: Tensor) -> list[Tensor]:
        with torch.no_grad():
            logits = self.head(self.h[part])
        terms: list[Tensor] = self.of_rows(logits, targets, counts)
        self._add(part, logits)
        return terms

    def _add(self, part: slice, slope: Tensor) -> None:
        x = self.h[part]
        if self.of_h is not None:
            self.of_h[part] = self.head.pull(slope)  # type: ignore[operator]
        for so_far in self.of_weights:
            if x.dtype is so_far.dtype:
                so_far.addmm_(slope.t(), x)
                continue
            for start in range(0, len(so_far), ROWS):
                rows = slice(start, start + ROWS)
                so_far[rows] += slope[:, rows].t() @ x


class _ByKernel(_Slopes):
    """Of such logits too, by `head_cross_entropy.cpp`: products, softmax and gradients of a block of words while it is in the cache."""

    def chunks(self) -> list[slice]:
        # Each thread adds up a gradient of the hidden states of its own, in fp32.
        sums = torch.get_num_threads() * self.h.shape[-1]
        return _even_chunks(len(self.h), min(KERNEL // self.of_rows.vocab_size, KERNEL // sums, HIGH), WIDE)

    def chunk(self, part: slice, targets: Tensor, counts: Tensor) -> list[Tensor]:
        (weight,) = self.head.parameters()
        of_h = None if self.of_h is None else self.of_h[part]
        of_weight = self.of_weights[0] if self.of_weights else None
        of_rows = self.of_rows
        terms = torch.ops.llmkit.head_cross_entropy(
            self.h[part], weight, targets.contiguous(), counts.float().contiguous(), of_rows.s, of_rows.z, of_h, of_weight, part.start > 0
        )
        return [value for value, wanted in zip(terms, (True, of_rows.s > 0, of_rows.z > 0), strict=True) if wanted]

    def _memory(self, weight: Tensor) -> Tensor:
        # The first chunk writes over whatever is there.
        return _lent(weight)


def _even_chunks(length: int, rows: int, multiple: int) -> list[slice]:
    number = max(-(-length // max(rows, multiple)), 1)
    size = -(-length // (number * multiple)) * multiple
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _lent(weight: Tensor) -> Tensor:
    table = gradient_in_place(weight)
    return torch.empty_like(weight, dtype=torch.float32) if table is None else table.lend()


def _is_product(head: nn.Module, h: Tensor) -> bool:
    """Whether the head says that it is one, and has no more than the one matrix, which is as h is: no autocast between them, no shard."""
    if not getattr(head, "is_product", False) or torch.is_autocast_enabled(h.device.type):
        return False
    matrices = list(head.parameters())
    if len(matrices) != 1 or matrices[0].dtype is not h.dtype:
        return False
    return type(matrices[0]) in (nn.Parameter, Tensor) and type(h) is Tensor


def _is_for_the_kernel(of_rows: RowsLoss, head: nn.Module, h: Tensor) -> bool:
    """Where parts of the model are compiled: then there is a compiler, and someone who wants to wait for it."""
    if of_rows._compiled_call_impl is None or h.device.type != "cpu" or h.dtype not in (torch.float32, torch.bfloat16):
        return False
    (weight,) = head.parameters()
    if h.shape[-1] % 2 or len(h) == 0 or not weight.is_contiguous():
        return False
    return bool(torch.backends.mkldnn.enabled) and _kernel_is_there()


@cache
def _kernel_is_there() -> bool:
    if kernel.lacking("avx512_bf16") is not None:
        return False
    if (reason := kernel.refused(SOURCE, "avx512_bf16") or _does_not_run()) is not None:
        warnings.warn(f"the loss is computed without its kernel, more slowly: {reason}", stacklevel=1)
    return reason is None


def _does_not_run() -> str | None:
    """Why oneDNN makes no product for it; None where it does. It may be told to leave instructions out that the processor has."""
    for dtype in (torch.float32, torch.bfloat16):
        x, ones = torch.ones(2, 2, dtype=dtype), torch.ones(2)
        try:
            torch.ops.llmkit.head_cross_entropy(x, x, ones.long(), ones, 0.0, 0.0, torch.empty_like(x), torch.empty(2, 2), False)
        except RuntimeError as error:
            return str(error).partition("\n")[0]
    return None
