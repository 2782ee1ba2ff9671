"""Optimizers: how parameters become a torch optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

Role = Literal["matrix", "embedding", "head", "vector"]


class NamedParameter(NamedTuple):
    """A parameter, its saved name, its role, and a factor on its learning rate, which every optimizer multiplies its own by.

    matrix: two or more dimensions; vector: one (norm scales, biases); embedding: token and position tables; head: an untied output matrix.
    A module may say otherwise with `roles: {name: role}`.
    """

    name: str
    parameter: nn.Parameter
    role: Role
    lr_scale: float = 1.0


class Optimizer:
    """Builds a torch optimizer, with `(params)`. Its parameters have `lr`: the peak, which the schedule multiplies.

    Only `build` is to be written. The loop calls it once, then for each step: averages the gradients over all counted tokens
    of all ranks, clips their norm, sets `group["lr"] = group["initial_lr"] * schedule(step, total)`, and calls `step()`.
    A gradient's memory is the next one's: what an optimizer keeps of it, it clones.
    Weights and gradients are fp32 whatever the model computes in; under FSDP they are shards, so one whose update needs a
    whole matrix declares `offers={"whole_matrices"}`. One that updates parameters of several models, stacked along a first dimension, as
    it would each model's own declares `offers={"stackable"}`: seeds of one small model are then trained together.

    A whole one, with the component that its plugin's hook returns:

        class SignParams(Params):
            lr: float = Field(1e-4, gt=0, description="the size of every update")
            momentum: float = Field(0.9, ge=0, lt=1, description="how much of the last direction stays")

        class SignDescent(Optimizer):
            def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
                peaks = [self.params.lr * item.lr_scale for item in parameters]
                groups = [{"params": [item.parameter], "lr": lr, "initial_lr": lr} for item, lr in zip(parameters, peaks)]
                return SignSGD(groups, {"momentum": self.params.momentum})

        class SignSGD(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is None:
                            continue
                        state = self.state[parameter]
                        mean = state.setdefault("mean", torch.zeros_like(parameter))
                        mean.lerp_(parameter.grad, 1 - group["momentum"])
                        parameter.sub_(mean.sign(), alpha=group["lr"])

        Component(Kind.optimizer, "acme.sign", SignParams, "llmkit_acme.optimizers:SignDescent", "the sign of the averaged gradient")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        """A torch optimizer over all of them, grouped by role as the method wants it.

        parameters  every trained parameter of the model and the objective, once each (a tied head is the embedding), in the
                    same order every time. They lie on the device that trains; on the meta device no kernel runs

        Every parameter is in exactly one group, and the groups come in the same order every time: saved state is matched by it.
        Every group carries `initial_lr`, its own peak learning rate, with `lr_scale` in it. All state that decides the next update
        lies in `state_dict()`, in tensors and numbers; after `load_state_dict` the next step is bit for bit what it would have been.
        A parameter without a gradient is left as it is.
        """
        raise NotImplementedError

    def train_mode(self) -> None:
        """Called before the first step, and before training goes on after an evaluation or a checkpoint. May be left out.

        Schedule-free methods need it. Between `eval_mode` and `train_mode` nothing of the training changes, bit for bit: one rank
        alone evaluates and saves, and how often anyone does is no part of the experiment.
        """

    def eval_mode(self) -> None:
        """Called before an evaluation or a checkpoint: the weights become those that are to be kept. May be left out."""
