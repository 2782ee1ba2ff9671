"""Dynamic tanh, a squashing in the place of a normalisation (Zhu et al. 2025, arXiv 2503.10622).

    y = tanh(alpha * x) * weight + bias

alpha is one learned number, and nothing is averaged: what is near zero passes in proportion, and only what is extreme is bent. So a
row's scale is not taken away, and the start matters: the paper's larger language models begin with a smaller alpha (0.8 before
attention and 0.2 elsewhere at a width of 4096), and multiply the embeddings by a factor that begins at sqrt(width).

Shapes: x and y (..., width), weight and bias (width,), alpha (1,). Cost: 2 width + 1 parameters; about 4 operations a number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.norm import Norm
from llmkit.core.site import Site
from llmkit.plugins.norms.components import DynamicTanhParams


class DynamicTanh(Norm):
    """tanh with a learned slope, (..., width) -> (..., width), computed in fp32."""

    def __init__(self, params: DynamicTanhParams, site: Site) -> None:
        super().__init__()
        self.start = params.alpha
        self.alpha = nn.Parameter(torch.full((1,), params.alpha))
        self.weight = nn.Parameter(torch.ones(site.width)) if params.scale else None
        self.bias = nn.Parameter(torch.zeros(site.width)) if params.bias else None

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """The slope that the parameters say; a scale of 1 and no bias."""
        return torch.full(shape, self.start) if name == "alpha" else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        y = torch.tanh(self.alpha.float() * x.float())
        if self.weight is not None:
            y = y * self.weight.float()
        if self.bias is not None:
            y = y + self.bias.float()
        return y.to(x.dtype)
