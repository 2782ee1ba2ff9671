"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467).

    y = x / sqrt(mean(x^2) + eps) * w        w = weight; 1 + weight where `zero_centred` (Gemma); 1 where `scale` is false

Everything is computed in fp32 and rounded once, at the end: Gemma's order. Llama's rounds the normalised x to its own dtype before it
is scaled, and again after; in fp32 the two are the same, and in bf16 they differ by no more than those roundings.

Shapes: x and y (..., width), weight (width,). Cost: width parameters, none without a scale; about 4 operations a number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.norm import Norm
from llmkit.core.site import Site
from llmkit.plugins.norms.components import RMSNormParams


class RMSNorm(Norm):
    """Root-mean-square normalisation of the last dimension, (..., width) -> (..., width), computed in fp32."""

    def __init__(self, params: RMSNormParams, site: Site) -> None:
        super().__init__()
        self.eps = params.eps
        self.shape = (site.width,)
        self.zero_centred = params.zero_centred
        self.weight = nn.Parameter(torch.full((site.width,), 0.0 if params.zero_centred else 1.0)) if params.scale else None

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """A scale of 1, whichever way it is written."""
        return torch.zeros(shape) if self.zero_centred else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        # fp32, because the mean of squares of a bf16 row loses its small entries.
        return nn.functional.rms_norm(x.float(), self.shape, self._scale(), self.eps).to(x.dtype)

    def _scale(self) -> Tensor | None:
        if self.weight is None:
            return None
        return 1 + self.weight.float() if self.zero_centred else self.weight.float()
