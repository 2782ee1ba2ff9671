"""Gated linear units (Shazeer 2020, arXiv 2002.05202).

y = down(silu(gate(x)) * up(x))    SwiGLU
y = down(gelu(gate(x)) * up(x))    GeGLU
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.attention import project
from llmkit.core.interfaces.ffn import FeedForward
from llmkit.core.site import Site
from llmkit.plugins.ffn.components import GLUParams


class GLU(FeedForward):
    """Each token by itself, (B, T, D) -> (B, T, D): one projection gates another."""

    residual = ("down.weight",)

    def __init__(self, params: GLUParams, site: Site) -> None:
        super().__init__()
        hidden = params.hidden(site.d_model)
        self.gate = nn.Linear(site.d_model, hidden, bias=params.bias)
        self.up = nn.Linear(site.d_model, hidden, bias=params.bias)
        self.down = nn.Linear(hidden, site.d_model, bias=params.bias)

    def activation(self, x: Tensor) -> Tensor:
        """What the gate goes through, elementwise."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        gate, up = project(x, self.gate, self.up)
        y: Tensor = self.down(self.activation(gate) * up)
        return y


class SwiGLU(GLU):
    """The gate through SiLU."""

    def activation(self, x: Tensor) -> Tensor:
        """x -> x * sigmoid(x)."""
        return F.silu(x)


class GeGLU(GLU):
    """The gate through the exact GELU."""

    def activation(self, x: Tensor) -> Tensor:
        """x -> x * Phi(x), Phi the normal distribution function."""
        return F.gelu(x)
