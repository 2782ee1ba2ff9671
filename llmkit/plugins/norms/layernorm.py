"""LayerNorm (Ba, Kiros and Hinton 2016, arXiv 1607.06450).

    y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias

Without `scale` there is no weight and without `bias` none; with neither it has no parameters (OLMo 1, arXiv 2402.00838).

Shapes: x and y (..., width), weight and bias (width,). Cost: 2 width parameters; about 7 operations a number.
"""

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
        self.shape = (site.width,)
        self.weight = nn.Parameter(torch.ones(site.width)) if params.scale else None
        self.bias = nn.Parameter(torch.zeros(site.width)) if params.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        weight, bias = (None if value is None else value.float() for value in (self.weight, self.bias))
        return nn.functional.layer_norm(x.float(), self.shape, weight, bias, self.eps).to(x.dtype)
