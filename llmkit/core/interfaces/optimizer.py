"""Optimizers: how parameters become a torch optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

Role = Literal["matrix", "embedding", "head", "vector"]


class NamedParameter(NamedTuple):
    """A parameter, its saved name, and its role.

    matrix: two or more dimensions; vector: one (norm scales, biases); embedding: token and position tables; head: an untied output matrix.
    A module may say otherwise with `roles: {name: role}`.
    """

    name: str
    parameter: nn.Parameter
    role: Role


class Optimizer:
    """Builds a torch optimizer, with `(params)`. Its parameters have `lr`: the peak, which the schedule multiplies."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        """A torch optimizer over all of them, grouped by role as the method wants it.

        Every group carries `initial_lr`, its own peak learning rate; the loop sets `lr = initial_lr * schedule`. All state that
        decides the next update lies in `state_dict()`, in tensors and numbers.
        """
        raise NotImplementedError

    def train_mode(self) -> None:
        """Called before training goes on after an evaluation or a checkpoint (schedule-free methods need it)."""

    def eval_mode(self) -> None:
        """Called before an evaluation or a checkpoint."""
