"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import AdamWParams
from llmkit.plugins.optimizers.groups import fused, grouped


class AdamW(Optimizer):
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, with the weight decay multiplied by the learning rate:

        m = b1 m + (1 - b1) g        m^ = m / (1 - b1^t)
        v = b2 v + (1 - b2) g^2      v^ = v / (1 - b2^t)
        w = w - lr weight_decay w - lr m^ / (sqrt(v^) + eps)

    State: two numbers a parameter in the parameter's dtype, and the count t.
    """

    params: AdamWParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        groups = grouped(parameters, params, lr=params.lr, weight_decay=params.weight_decay, lr_by_role=params.lr_by_role)
        return torch.optim.AdamW(groups, betas=params.betas, eps=params.eps, fused=fused(parameters))
