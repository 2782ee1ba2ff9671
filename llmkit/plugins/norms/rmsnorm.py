"""RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, arXiv 1910.07467)."""

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
        self.weight = nn.Parameter(torch.ones(site.width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        # fp32, because the mean of squares of a bf16 row loses its small entries.
        return nn.functional.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)
