"""RMS normalisation with a single scale: y = x / sqrt(mean(x^2) + eps) * scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit import Norm, Site
from llmkit_acme import UnitNormParams


class UnitNorm(Norm):
    """(..., width) -> (..., width); the one scale starts at one, as all vectors do that are no bias."""

    def __init__(self, params: UnitNormParams, site: Site) -> None:
        super().__init__()
        self.eps = params.eps
        self.scale = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        # In fp32, because the square of a large fp16 number is infinite.
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps) * self.scale.float()).to(x.dtype)
