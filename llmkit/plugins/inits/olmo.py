"""OLMo's first values: each matrix by its own inputs, branch ends by their depth (Groeneveld et al. 2024, arXiv 2402.00838)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.init import Init, Weight
from llmkit.plugins.inits.components import OLMoParams


class OLMo(Init):
    """w ~ N(0, std^2), cut off at `cutoff` deviations (its code calls this initialisation mitchell):

    std = 1 / sqrt(fan in)                       matrices
    std = 1 / sqrt(2 fan_in (layer + 1))         where a branch ends
    std = 1 / sqrt(d_model)                      embedding and head
    """

    params: OLMoParams

    def std(self, weight: Weight) -> float:
        if weight.role != "matrix":
            return 1 / math.sqrt(weight.d_model)
        if weight.residual and weight.layer is not None:
            return 1 / math.sqrt(2 * weight.fan_in * (weight.layer + 1))
        return 1 / math.sqrt(weight.fan_in)

    def draw(self, weight: Weight, generator: torch.Generator) -> Tensor:
        std = self.std(weight)
        end = self.params.cutoff * std
        return nn.init.trunc_normal_(torch.empty(weight.shape), std=std, a=-end, b=end, generator=generator)
