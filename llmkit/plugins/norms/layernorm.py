"""LayerNorm: y = (x - mean) / sqrt(variance + eps) * weight + bias (Ba, Kiros and Hinton 2016, arXiv 1607.06450)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.norm import Norm
from llmkit.core.site import Site
from llmkit.plugins.norms.components import LayerNormParams


class LayerNorm(Norm):
    """Layer normalisation of the last dimension, (..., width) -> (..., width), computed in fp32."""

    def __init__(self, params: LayerNormParams, site: Site) -> None:
        super().__init__()
        self.eps = params.eps
        self.weight = nn.Parameter(torch.ones(site.width))
        self.bias = nn.Parameter(torch.zeros(site.width)) if params.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.layer_norm(x.float(), self.weight.shape, self.weight.float(), bias, self.eps).to(x.dtype)
