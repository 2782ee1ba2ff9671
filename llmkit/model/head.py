"""The head: hidden states to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """y = c tanh(z / c), z = scale W h: (..., D) -> (..., V), the final logits, which objectives and samplers read.

    scale    factor on the logits; 1 for none (muP, Cohere, Granite)
    softcap  c; None for no cap (Gemma 2, arXiv 2408.00118)
    """

    def __init__(self, d_model: int, vocab_size: int, *, scale: float = 1.0, softcap: float | None = None) -> None:
        super().__init__(d_model, vocab_size, bias=False)
        self.scale = scale
        self.softcap = softcap

    def forward(self, input: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits (..., V)."""
        return self.finish(super().forward(input))

    def finish(self, logits: Tensor) -> Tensor:
        """What comes after the product."""
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits
