"""The feed-forward network of the original Transformer: y = down(activation(up(x))) (arXiv 1706.03762)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from llmkit.core.interfaces.ffn import FeedForward
from llmkit.core.site import Site
from llmkit.plugins.ffn.activations import ACTIVATIONS
from llmkit.plugins.ffn.components import MLPParams


class MLP(FeedForward):
    """y = down(activation(up(x))), each token by itself, (B, T, D) -> (B, T, D), through a hidden width of `d_ff`.

    A token takes 2 D d_ff multiply-adds. `relu2` is relu(x)^2 (Primer, arXiv 2109.08668).
    """

    residual = ("down.weight",)
    parallel: Mapping[str, str] = {"up": "column", "down": "row"}

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
