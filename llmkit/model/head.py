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

    @property
    def is_product(self) -> bool:
        """Whether the logits are W h and nothing else, also for whoever listens or changes them on the way."""
        hooked: bool = any((self._forward_hooks, self._forward_pre_hooks, self._backward_hooks, self._backward_pre_hooks))
        return self.scale == 1 and self.softcap is None and not hooked

    def pull(self, slope: Tensor) -> Tensor:
        """The gradient of the hidden states (..., D), given that of the logits (..., V). Only where `is_product`."""
        return slope @ self.weight

    def finish(self, logits: Tensor) -> Tensor:
        """What comes after the product."""
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits
