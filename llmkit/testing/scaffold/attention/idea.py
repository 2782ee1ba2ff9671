"""Multi-head attention: y = output(softmax(q k^T / sqrt(K) + mask) v), with q, k, v projections of x.

Shapes: B batch, T tokens, D model width, H heads, K = D / H head width.
"""

from __future__ import annotations

from torch import Tensor, nn

from llmkit import Attention, KVCache, Site, attend, project
from llmkit.core.interfaces.attention import Context, LayerCache
from llmkit.testing.scaffold.attention import IdeaParams


class Idea(Attention):
    """H heads that share the width of the model, (B, T, D) -> (B, T, D)."""

    residual = ("output.weight",)

    def __init__(self, params: IdeaParams, site: Site) -> None:
        super().__init__()
        self.heads, self.width, self.window = params.n_heads, site.d_model // params.n_heads, params.window
        self.position = site.position(self.heads, self.width)
        inner = self.heads * self.width
        self.query, self.key, self.value = (nn.Linear(site.d_model, inner, bias=False) for _ in range(3))
        self.output = nn.Linear(inner, site.d_model, bias=False)

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D). `attend` rotates, caches, masks and biases."""
        q, k, v = (self._split(part) for part in project(x, self.query, self.key, self.value))
        y = attend(q, k, v, ctx, cache, position=self.position, window=self.window)
        out: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return out

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        """Keys and values of H heads; a ring where there is a window."""
        return KVCache(batch, self.heads, self.width, max_len, like=like, window=self.window)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, H K) -> (B, H, T, K)."""
        return x.view(*x.shape[:2], self.heads, self.width).transpose(1, 2)
