"""What every objective that predicts tokens sums up: the cross-entropy, and what may be added to it, in chunks of tokens.

Logits are the largest tensor of a training step, tokens times vocabulary. Here they exist for one chunk at a time: its logits, their
gradient, and with it the gradients of the hidden states and of the head, all in the forward pass; the backward pass only scales
them by what is asked of it. Liger (arXiv 2410.10989) does so on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.objective import IGNORED
from llmkit.plugins.objectives.components import CausalParams

CHUNK = 1 << 24
CHUNK_FP32 = 1 << 25
"""Logits that exist at once: few beside the activations of a model, and rows enough for fast matrix products, of which fp32's want more."""

BLOCK = 1 << 20
"""Numbers of such a tensor that are worked on at once where nothing fuses the work: about what a processor's cache holds."""

ROWS = 1 << 12
"""Rows of the head's gradient that are multiplied at once where its dtype is not the one that it adds up in."""

Terms = dict[str, Tensor]


class CrossEntropy(nn.Module):
    """`loss(head, h, targets, counts)`: what is to be minimised, a sum over the counted tokens, fp32 scalar; and the terms that it is
    the sum of, detached.

    loss             `-ln p(target)`, in nats
    label_smoothing  what smoothing adds to it: `s (mean over the vocabulary of -ln p - -ln p(target))`, where s > 0
    z_loss           `z (ln sum exp logits)^2`, where z > 0
    """

    def __init__(self, params: CausalParams, vocab_size: int) -> None:
        super().__init__()
        self.of_rows = RowsLoss(params)
        self.vocab_size = vocab_size

    def forward(self, head: Callable[[Tensor], Tensor], h: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Terms]:
        """head: hidden states (..., D) -> logits (..., V) in any dtype, each row by itself. h (B, T, D); targets (B, T), -100 where
        ignored; counts (B, T): each target's weight, 0 where it is ignored.

        A head that is a module goes in chunks. Of one that is a function it is not known which weights it has, so that all its logits
        exist at once; so they do inside a compiled graph, which cannot take gradients in a forward pass.
        """
        rows, wanted, counted = h.flatten(0, -2), targets.flatten(), counts.flatten()
        if not isinstance(head, nn.Module) or torch.compiler.is_compiling():
            terms, _, _ = self.of_rows.terms(head(rows), wanted, counted)
            return torch.stack(list(terms.values())).sum(), {name: value.detach() for name, value in terms.items()}
        weights = [weight for weight in head.parameters() if weight.requires_grad]
        total, *values = _InChunks.apply(self, head, rows, wanted, counted, *weights)  # type: ignore[no-untyped-call]
        return total, dict(zip(self.of_rows.names, values, strict=True))

    def chunks(self, length: int, dtype: torch.dtype) -> list[slice]:
        """`length` rows in chunks, as even as can be, so that few are of another size."""
        rows = max((CHUNK_FP32 if dtype is torch.float32 else CHUNK) // self.vocab_size, 1)
        number = max(-(-length // rows), 1)
        size = -(-length // number)
        return [slice(start, start + size) for start in range(0, length, size)]


class RowsLoss(nn.Module):
    """The terms of some rows and the gradient of their logits: all that is done to a tensor as large as the vocabulary."""

    compiled_alone = True

    def __init__(self, params: CausalParams) -> None:
        super().__init__()
        self.z, self.s = params.z_loss, params.label_smoothing
        self.names = ["loss", *(["label_smoothing"] if self.s else []), *(["z_loss"] if self.z else [])]

    def forward(self, logits: Tensor, targets: Tensor, counts: Tensor) -> list[Tensor]:
        """logits (N, V), targets (N,), counts (N,) -> each term, fp32 scalars. The gradient of their sum takes the place of the logits:

        counts (p (1 + 2 z ln sum exp logits) - (1 - s) onehot(target) - s / V)
        """
        # A compiler makes one loop of it; without one, what is made on the way is as large as this many rows.
        size = len(logits) if torch.compiler.is_compiling() else max(BLOCK // logits.shape[-1], 1)
        parts = [slice(start, start + size) for start in range(0, len(logits), size)]
        summed = [self._replace(logits[part], targets[part], counts[part]) for part in parts]
        return [torch.stack(values).sum() for values in zip(*summed, strict=True)]

    def _replace(self, logits: Tensor, targets: Tensor, counts: Tensor) -> list[Tensor]:
        terms, log_p, log_z = self.terms(logits, targets, counts)
        factor = counts if log_z is None else counts * (1 + 2 * self.z * log_z)
        slope = log_p.exp_().mul_(factor[:, None])
        if self.s:
            slope -= (self.s / slope.shape[-1]) * counts[:, None]
        # Compared, and not scattered: then a compiler keeps none of this in memory.
        hit = torch.arange(logits.shape[-1], device=logits.device) == targets[:, None]
        logits.copy_(torch.where(hit, slope - (1 - self.s) * counts[:, None], slope))
        return list(terms.values())

    def terms(self, logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Terms, Tensor, Tensor | None]:
        """Each term; the log-probabilities (N, V) in fp32; and, with a z-loss, ln sum exp of each row."""
        log_p, log_z = F.log_softmax(logits, dim=-1, dtype=torch.float32), None
        nats = F.nll_loss(log_p, targets, ignore_index=IGNORED, reduction="none")
        terms = {"loss": (nats * counts).sum()}
        if self.s:
            terms["label_smoothing"] = self.s * ((-log_p.mean(dim=-1) - nats) * counts).sum()
        if self.z:
            # Any token's logit less its log-probability: no second pass over the vocabulary.
            known = targets.clamp(min=0)[:, None]
            log_z = (logits.gather(-1, known).float() - log_p.gather(-1, known))[:, 0]
            terms["z_loss"] = self.z * (log_z.square() * counts).sum()
        return terms, log_p, log_z


class _InChunks(torch.autograd.Function):
    """The terms' sum and each of them, with the gradients of the hidden states and of the head's weights made on the way."""

    @staticmethod
    def forward(
        ctx: Any, loss: CrossEntropy, head: nn.Module, h: Tensor, targets: Tensor, counts: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        of_h, of_weights = ctx.needs_input_grad[2], any(ctx.needs_input_grad[5:])
        slopes = (_OfProduct if _is_product(head, h, weights) else _OfAnyHead)(head, h, weights, of_h, of_weights)
        summed: list[list[Tensor]] = []
        for part in loss.chunks(len(h), h.dtype):
            logits = slopes.logits(part)
            summed.append(loss.of_rows(logits, targets[part], counts[part]))
            slopes.add(part, logits)
            # Or it would still be there while the next chunk's are made.
            del logits
        ctx.slopes = slopes
        values = [torch.stack(parts).sum() for parts in zip(*summed, strict=True)]
        ctx.mark_non_differentiable(*values)
        return torch.stack(values).sum(), *values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            raise RuntimeError("the gradients of this loss were given out already; run the forward pass again")
        h, weights = slopes.times(upstream)
        return None, None, h, None, None, *weights


class _Slopes:
    """Gradients of a sum with respect to the hidden states and the head's weights, as the chunks come. They add up in fp32."""

    def __init__(self, head: nn.Module, h: Tensor, weights: Sequence[Tensor], of_h: bool, of_weights: bool) -> None:
        self.head, self.h, self.weights = head, h, list(weights) if of_weights else []
        self.count = len(weights)
        self.of_h = torch.empty_like(h) if of_h else None
        self.of_weights = [torch.zeros_like(weight, dtype=torch.float32) for weight in self.weights]

    def times(self, upstream: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """All of them times a scalar, in the dtypes of what they belong to. In place: they are as large as the head."""
        h = None if self.of_h is None else self.of_h.mul_(upstream)
        if not self.weights:
            return h, [None] * self.count
        return h, [gradient.mul_(upstream).to(weight.dtype) for gradient, weight in zip(self.of_weights, self.weights, strict=True)]


class _OfAnyHead(_Slopes):
    """Through the graph from the hidden states of a chunk to its logits."""

    def logits(self, part: slice) -> Tensor:
        """The logits of a chunk, which may be written over: what the head keeps of them for its gradient stays."""
        self.x = self.h[part].detach().requires_grad_(self.of_h is not None)
        with torch.set_grad_enabled(self.of_h is not None or bool(self.weights)):
            self.y = self.head(self.x)
        copied: Tensor = self.y.detach().clone()
        return copied

    def add(self, part: slice, slope: Tensor) -> None:
        """A chunk's share, given the gradient of its logits."""
        wanted = ([] if self.of_h is None else [self.x]) + self.weights
        if not wanted:
            return
        found = list(torch.autograd.grad(self.y, wanted, slope))
        del self.x, self.y
        if self.of_h is not None:
            self.of_h[part] = found.pop(0)
        for so_far, gradient in zip(self.of_weights, found, strict=True):
            so_far.add_(gradient)


class _OfProduct(_Slopes):
    """Of logits that are W h and nothing else: no graph, and no second tensor as large as the gradient of W."""

    def logits(self, part: slice) -> Tensor:
        """The logits of a chunk, which may be written over."""
        with torch.no_grad():
            logits: Tensor = self.head(self.h[part])
        return logits

    def add(self, part: slice, slope: Tensor) -> None:
        """A chunk's share, given the gradient of its logits."""
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


def _is_product(head: nn.Module, h: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether the head says that it is one, and has no more than the one matrix, which is as h is: no autocast between them, no shard."""
    if not getattr(head, "is_product", False) or torch.is_autocast_enabled(h.device.type):
        return False
    matrices = list(head.parameters())
    if len(matrices) != 1 or matrices[0].dtype is not h.dtype:
        return False
    return type(matrices[0]) in (nn.Parameter, Tensor) and type(h) is Tensor
