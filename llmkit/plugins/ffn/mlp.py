"""The feed-forward network of the original Transformer: y = down(activation(up(x))) (arXiv 1706.03762).

`relu2` is relu(x)^2 (Primer, So et al. 2021, arXiv 2109.08668); `gelu_tanh` is GPT-2's approximation of GELU (arXiv 1606.08415).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.ffn import FeedForward
from llmkit.core.site import Site
from llmkit.plugins.ffn.components import Activation, MLPParams


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": _relu_squared,
    "silu": F.silu,
}


class MLP(FeedForward):
    """Each token by itself, (B, T, D) -> (B, T, D), through a hidden width of `d_ff`."""

    residual = ("down.weight",)

    def __init__(self, params: MLPParams, site: Site) -> None:
        super().__init__()
        hidden = params.hidden(site.d_model)
        self.up = nn.Linear(site.d_model, hidden, bias=params.bias)
        self.down = nn.Linear(hidden, site.d_model, bias=params.bias)
        self.activation = ACTIVATIONS[params.activation]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y
