"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import SgdParams
from llmkit.plugins.optimizers.groups import fused, grouped


class SGD(Optimizer):
    """Momentum in the form in which the learning rate stays outside of the buffer (Sutskever et al. 2013, as torch writes it):

        g = g + weight_decay w
        b = momentum b + g           (b = g at the first step)
        w = w - lr b                 (nesterov: w - lr (g + momentum b))

    State: one number a parameter, none without momentum.
    """

    params: SgdParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        groups = grouped(parameters, params, lr=params.lr, weight_decay=params.weight_decay)
        return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, nesterov=params.nesterov, fused=fused(parameters))
