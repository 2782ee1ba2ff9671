"""RMS normalisation: y = x / sqrt(mean(x^2) + eps) * weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit import Norm, Site
from llmkit.testing.scaffold.norm import IdeaParams


class Idea(Norm):
    """(..., width) -> (..., width); the weight starts at one, as every vector does that is no bias."""

    def __init__(self, params: IdeaParams, site: Site) -> None:
        super().__init__()
        self.eps = params.eps
        self.weight = nn.Parameter(torch.empty(site.width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        # In fp32, because the square of a large fp16 number is infinite.
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * self.weight.float()).to(x.dtype)
