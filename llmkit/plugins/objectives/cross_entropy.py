"""What every objective that predicts tokens sums up: the cross-entropy, and what may be added to it, in chunks of tokens.

Logits are the largest tensor of a training step, tokens times vocabulary. Here they exist for one chunk at a time: its logits, their
gradient, and with it the gradients of the hidden states and of the head, all in the forward pass; the backward pass only scales
them by what is asked of it. Liger (arXiv 2410.10989) does so on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.objectives.in_chunks import InChunks
from llmkit.plugins.objectives.rows_loss import RowsLoss, Terms


class CrossEntropy(nn.Module):
    """`loss(head, h, targets, counts)`: what is to be minimised, a sum over the counted tokens, fp32 scalar; and the terms that it is
    the sum of, detached.

    loss             `-ln p(target)`, in nats
    label_smoothing  what smoothing adds to it: `s (mean over the vocabulary of -ln p - -ln p(target))`, where s > 0
    z_loss           `z (ln sum exp logits)^2`, where z > 0
    """

    def __init__(self, params: CausalParams, vocab_size: int) -> None:
        super().__init__()
        self.of_rows = RowsLoss(params, vocab_size)

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
        total, *values = InChunks.apply(self.of_rows, head, rows, wanted, counted, *weights)  # type: ignore[no-untyped-call]
        return total, dict(zip(self.of_rows.names, values, strict=True))
