"""What every objective that predicts tokens sums up: the cross-entropy, and what may be added to it, in chunks of tokens.

Logits are the largest tensor of a training step, tokens times vocabulary. Here they exist for one chunk at a time: its logits, their
gradient, and with it the gradients of the hidden states and of the head, all in the forward pass; the backward pass only scales
them by what is asked of it. Liger (arXiv 2410.10989) does so on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.objective import IGNORED
from llmkit.plugins.objectives.components import CausalParams

CHUNK = 1 << 24
"""Logits that exist at once: small beside the activations of a model, and rows enough for fast matrix products."""

Terms = dict[str, Tensor]


def cross_entropy(
    head: Callable[[Tensor], Tensor], h: Tensor, targets: Tensor, counts: Tensor, params: CausalParams, vocab_size: int
) -> tuple[Tensor, Terms]:
    """What is to be minimised, a sum over the counted tokens, fp32 scalar; and the terms that it is the sum of, detached.

    head     hidden states (..., D) -> logits (..., V) in any dtype, each row by itself
    h        (B, T, D)
    targets  (B, T), -100 where ignored
    counts   (B, T): each target's weight, 0 where it is ignored

    loss             `-ln p(target)`, in nats
    label_smoothing  what smoothing adds to it: `s (mean over the vocabulary of -ln p - -ln p(target))`, where s > 0
    z_loss           `z (ln sum exp logits)^2`, where z > 0

    A head that is a module goes in chunks. Of one that is a function it is not known which weights it has, so that all its logits
    exist at once; so they do inside a compiled graph, which cannot take gradients in a forward pass.
    """
    rows, wanted, counted = h.flatten(0, -2), targets.flatten(), counts.flatten()
    if not isinstance(head, nn.Module) or torch.compiler.is_compiling():
        terms, _, _ = _terms(head(rows), wanted, counted, params)
        return torch.stack(list(terms.values())).sum(), {name: value.detach() for name, value in terms.items()}
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    total, *values = _InChunks.apply(head, params, max(CHUNK // vocab_size, 1), rows, wanted, counted, *weights)  # type: ignore[no-untyped-call]
    return total, dict(zip(_names(params), values, strict=True))


class _InChunks(torch.autograd.Function):
    """The terms' sum and each of them, with the gradients of the hidden states and of the head's weights made on the way."""

    @staticmethod
    def forward(
        ctx: Any, head: nn.Module, params: CausalParams, rows: int, h: Tensor, targets: Tensor, counts: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        slopes = _Slopes(h, weights, ctx.needs_input_grad[3], any(ctx.needs_input_grad[6:]))
        summed: list[Terms] = []
        for part in _chunks(len(h), rows):
            x, logits = slopes.logits(head, part)
            terms, log_p, log_z = _terms(logits.detach(), targets[part], counts[part], params)
            summed.append(terms)
            if slopes.wanted:
                slopes.add(part, x, logits, _slope(log_p, log_z, targets[part], counts[part], params))
        ctx.slopes = slopes
        values = [torch.stack([terms[name] for terms in summed]).sum() for name in _names(params)]
        ctx.mark_non_differentiable(*values)
        return torch.stack(values).sum(), *values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            raise RuntimeError("the gradients of this loss were given out already; run the forward pass again")
        h, weights = slopes.times(upstream)
        return None, None, None, h, None, None, *weights


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
        found = list(torch.autograd.grad(logits, ([] if self.of_h is None else [x]) + self.weights, slope.to(logits.dtype)))
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


def _chunks(length: int, rows: int) -> Iterator[slice]:
    for start in range(0, length, rows):
        yield slice(start, start + rows)


def _names(params: CausalParams) -> list[str]:
    return ["loss", *(["label_smoothing"] if params.label_smoothing else []), *(["z_loss"] if params.z_loss else [])]


def _terms(logits: Tensor, targets: Tensor, counts: Tensor, params: CausalParams) -> tuple[Terms, Tensor, Tensor | None]:
    """Each term, of logits (N, V), targets (N,) and counts (N,); the log-probabilities; and, with a z-loss, ln sum exp of each row."""
    log_p, log_z = F.log_softmax(logits, dim=-1, dtype=torch.float32), None
    nats = F.nll_loss(log_p, targets, ignore_index=IGNORED, reduction="none")
    terms = {"loss": (nats * counts).sum()}
    if params.label_smoothing:
        terms["label_smoothing"] = params.label_smoothing * ((-log_p.mean(dim=-1) - nats) * counts).sum()
    if params.z_loss:
        # Any token's logit less its log-probability: no second pass over the vocabulary.
        known = targets.clamp(min=0)[:, None]
        log_z = (logits.gather(-1, known).float() - log_p.gather(-1, known))[:, 0]
        terms["z_loss"] = params.z_loss * (log_z.square() * counts).sum()
    return terms, log_p, log_z


def _slope(log_p: Tensor, log_z: Tensor | None, targets: Tensor, counts: Tensor, params: CausalParams) -> Tensor:
    """The gradient of the terms' sum with respect to the logits, (N, V) fp32, in the place of the log-probabilities:

    counts (p (1 + 2 z ln sum exp logits) - (1 - s) onehot(target) - s / V)
    """
    s = params.label_smoothing
    factor = counts if log_z is None else counts * (1 + 2 * params.z_loss * log_z)
    slope = log_p.exp_().mul_(factor[:, None])
    if s:
        slope -= (s / slope.shape[-1]) * counts[:, None]
    return slope.scatter_add_(1, targets.clamp(min=0)[:, None], (s - 1) * counts[:, None])
