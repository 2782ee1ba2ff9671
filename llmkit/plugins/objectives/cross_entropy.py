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

    def forward(self, logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[list[Tensor], Tensor]:
        """logits (N, V), targets (N,), counts (N,) -> each term, fp32 scalars, and the gradient of their sum, (N, V), in the logits' dtype:

        counts (p (1 + 2 z ln sum exp logits) - (1 - s) onehot(target) - s / V)
        """
        terms, log_p, log_z = self.terms(logits, targets, counts)
        factor = counts if log_z is None else counts * (1 + 2 * self.z * log_z)
        # In the place of the log-probabilities: this tensor is why there are chunks.
        slope = log_p.exp_().mul_(factor[:, None])
        if self.s:
            slope -= (self.s / slope.shape[-1]) * counts[:, None]
        slope.scatter_add_(1, targets.clamp(min=0)[:, None], (self.s - 1) * counts[:, None])
        return list(terms.values()), slope.to(logits.dtype)

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
        slopes = _Slopes(h, weights, ctx.needs_input_grad[2], any(ctx.needs_input_grad[5:]))
        summed: list[list[Tensor]] = []
        for part in loss.chunks(len(h), h.dtype):
            x, logits = slopes.logits(head, part)
            terms, slope = loss.of_rows(logits.detach(), targets[part], counts[part])
            summed.append(terms)
            slopes.add(part, x, logits, slope)
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

    def __init__(self, h: Tensor, weights: Sequence[Tensor], of_h: bool, of_weights: bool) -> None:
        self.h, self.weights = h, list(weights) if of_weights else []
        self.count = len(weights)
        self.of_h = torch.empty_like(h) if of_h else None
        self.of_weights: list[Tensor] = []
        self.wanted = of_h or of_weights

    def logits(self, head: nn.Module, part: slice) -> tuple[Tensor, Tensor]:
        """The hidden states of a chunk, and their logits with the graph between them."""
        x = self.h[part].detach().requires_grad_(self.of_h is not None)
        with torch.set_grad_enabled(self.wanted):
            return x, head(x)

    def add(self, part: slice, x: Tensor, logits: Tensor, slope: Tensor) -> None:
        """A chunk's share, given the gradient of its logits."""
        if not self.wanted:
            return
        found = list(torch.autograd.grad(logits, ([] if self.of_h is None else [x]) + self.weights, slope))
        if self.of_h is not None:
            self.of_h[part] = found.pop(0)
        if not self.of_weights:
            self.of_weights = [gradient.float() for gradient in found]
            return
        for so_far, gradient in zip(self.of_weights, found, strict=True):
            so_far.add_(gradient)

    def times(self, upstream: Tensor) -> tuple[Tensor | None, list[Tensor | None]]:
        """All of them times a scalar, in the dtypes of what they belong to. In place: they are as large as the head."""
        h = None if self.of_h is None else self.of_h.mul_(upstream)
        if not self.weights:
            return h, [None] * self.count
        return h, [gradient.mul_(upstream).to(weight.dtype) for gradient, weight in zip(self.of_weights, self.weights, strict=True)]
