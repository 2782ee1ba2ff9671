"""The sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import LionParams
from llmkit.plugins.optimizers.groups import grouped


class Lion(Optimizer):
    """Chen et al., arXiv 2302.06675, program 1:

        c = b1 m + (1 - b1) g
        w = w - lr weight_decay w - lr sign(c)
        m = b2 m + (1 - b2) g

    Every number moves by lr, so that lr is to be three to ten times smaller than AdamW's, and the weight decay as many times larger.
    State: one number a parameter, half of AdamW's.
    """

    params: LionParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        groups = grouped(parameters, params, lr=params.lr, weight_decay=params.weight_decay, options={"betas": params.betas})
        return SignedMomentum(groups, {})


class SignedMomentum(torch.optim.Optimizer):
    """The update of `Lion`; every group has `lr`, `weight_decay`, `betas`."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                direction = state["momentum"].lerp(parameter.grad, 1 - b1).sign_()
                state["momentum"].lerp_(parameter.grad, 1 - b2)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(direction, alpha=group["lr"])
