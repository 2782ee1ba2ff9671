"""Sign descent with momentum: m = momentum m + (1 - momentum) g, w = w - lr sign(m)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llmkit import Optimizer
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.testing.scaffold.optimizer import IdeaParams


class Idea(Optimizer):
    """Every parameter moves by the learning rate at every step."""

    params: IdeaParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        """A torch optimizer with a group for each parameter: a group has one learning rate, and `lr_scale` is the parameter's own."""
        peaks = [self.params.lr * item.lr_scale for item in parameters]
        groups = [{"params": [item.parameter], "lr": lr, "initial_lr": lr} for item, lr in zip(parameters, peaks)]
        return SignDescent(groups, {"momentum": self.params.momentum})


class SignDescent(torch.optim.Optimizer):
    """The update itself. What it remembers lies in `self.state`, so that a checkpoint has it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update, at each group's own `lr`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                state["mean"].lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(state["mean"].sign(), alpha=group["lr"])
