"""Learned positions: x + weight[position], as in GPT-2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.optimizer import Role
from llmkit.core.interfaces.position import Position
from llmkit.core.site import Site
from llmkit.plugins.positions.components import LearnedParams


class Learned(Position):
    """A table of `max_seq_len` vectors of width D."""

    def __init__(self, params: LearnedParams, site: Site) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(site.max_seq_len, site.d_model))
        self.roles: dict[str, Role] = {"weight": "embedding"}

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, T, D), positions (B, T) -> (B, T, D)."""
        return x + F.embedding(positions, self.weight)
