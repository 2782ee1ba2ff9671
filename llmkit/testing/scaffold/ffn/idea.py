"""Two projections: y = down(gelu(up(x)))."""

from __future__ import annotations

from torch import Tensor, nn

from llmkit import FeedForward, Site
from llmkit.testing.scaffold.ffn import IdeaParams


class Idea(FeedForward):
    """Each token by itself, (B, T, D) -> (B, T, D)."""

    residual = ("down.weight",)

    def __init__(self, params: IdeaParams, site: Site) -> None:
        super().__init__()
        inner = params.ratio * site.d_model
        self.up = nn.Linear(site.d_model, inner, bias=False)
        self.down = nn.Linear(inner, site.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        y: Tensor = self.down(nn.functional.gelu(self.up(x)))
        return y
