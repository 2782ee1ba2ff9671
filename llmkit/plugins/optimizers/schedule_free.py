"""AdamW that averages its weights in place of lowering its learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import ScheduleFreeParams
from llmkit.plugins.optimizers.groups import grouped


class ScheduleFree(Optimizer):
    """Defazio et al., arXiv 2405.15682, algorithm 1, with AdamW's second moment. Gradients are taken at y, steps are made by z, and what
    is evaluated, saved and generated from is the average x:

        y = (1 - b1) z + b1 x
        v = b2 v + (1 - b2) g^2                               v^ = v / (1 - b2^t)
        z = z - lr (g / (sqrt(v^) + eps) + weight_decay y)
        x = (1 - c) x + c z                                   c = lr^2 / (sum of lr^2 so far)

    It wants the schedule `constant`, with a warm-up: b1 and the average do what a decay does, and no end has to be known. It has no
    warm-up of its own; the schedule's counts through lr^2 as the authors' does, and steps at a rate of 0 change nothing.

    While it trains, a parameter holds y, and x is worked out where it is looked at. `eval_mode` puts y aside, so that `train_mode`
    has it back bit for bit: evaluating more often, or on one rank alone, changes nothing of the training.
    State: two numbers a parameter (z and v, AdamW's amount), a third in a checkpoint (y).
    """

    params: ScheduleFreeParams

    def __init__(self, params: ScheduleFreeParams) -> None:
        super().__init__(params)
        self.built: AveragedAdamW | None = None

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        options = {"betas": params.betas, "eps": params.eps}
        groups = grouped(parameters, params, lr=params.lr, weight_decay=params.weight_decay, options=options)
        self.built = AveragedAdamW(groups, {})
        return self.built

    def train_mode(self) -> None:
        if self.built is not None:
            self.built.train_mode()

    def eval_mode(self) -> None:
        if self.built is not None:
            self.built.eval_mode()


class AveragedAdamW(torch.optim.Optimizer):
    """The update of `ScheduleFree`. A parameter whose state has `y` holds x: it is being evaluated, or was loaded from a checkpoint."""

    @torch.no_grad()
    def train_mode(self) -> None:
        """Every parameter back to the weights at which gradients are taken."""
        for parameter, state in self.state.items():
            if "y" in state:
                parameter.copy_(state.pop("y"))

    @torch.no_grad()
    def eval_mode(self) -> None:
        """Every parameter to the average."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter, {})
                if "z" in state and "y" not in state:
                    state["y"] = parameter.clone()
                    parameter.lerp_(state["z"], 1 - 1 / group["betas"][0])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, y: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, lr, (b1, b2) = self.state[y], group["lr"], group["betas"]
        if "y" in state:
            raise RuntimeError("the weights are those of an evaluation: call train_mode() before training goes on")
        if not state:
            state.update(step=0, lr_squares=0.0, z=y.clone(), square=torch.zeros_like(y))
        state["step"] += 1
        state["lr_squares"] += lr**2
        c = lr**2 / state["lr_squares"] if state["lr_squares"] else 0.0
        square = state["square"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        root = (square / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        direction = (gradient / root).add_(y, alpha=group["weight_decay"])
        # The new y from the old one, with x nowhere at hand: (1 - c) y + c z - lr (1 - b1 (1 - c)) direction.
        y.lerp_(state["z"], c).sub_(direction, alpha=lr * (1 - b1 * (1 - c)))
        state["z"].sub_(direction, alpha=lr)
