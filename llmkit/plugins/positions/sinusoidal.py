"""Sinusoidal positions (Vaswani et al. 2017, arXiv 1706.03762).

e[p, 2i] = sin(p * theta^(-2i/D))    e[p, 2i + 1] = cos(p * theta^(-2i/D))
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmkit.core.interfaces.position import Position
from llmkit.core.site import Site
from llmkit.plugins.positions.components import SinusoidalParams


class Sinusoidal(Position):
    """Fixed sines and cosines added to the embeddings; any position has one."""

    def __init__(self, params: SinusoidalParams, site: Site) -> None:
        super().__init__()
        self.theta = params.theta

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, T, D), positions (B, T) -> (B, T, D)."""
        width = x.shape[-1]
        channel = torch.arange(0, width, 2, device=x.device, dtype=torch.float32)
        angles = positions[..., None].float() * self.theta ** (-channel / width)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]
        return x + waves.to(x.dtype)
