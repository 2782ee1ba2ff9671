"""Multi-head attention, and its two economies: one mechanism that differs in how many heads keys and values have.

        mha              gqa              mqa
    v   | | | |           |   |            |
    k   | | | |           |   |            |
        : : : :          / \\ / \\        / / \\ \\
    q   | | | |          | | | |          | | | |

    y = output(softmax(q k^T / sqrt(K) + mask) v),  q, k, v = projections of x

mha: Vaswani et al. 2017 (arXiv 1706.03762); mqa: Shazeer 2019 (arXiv 1911.02150); gqa: Ainslie et al. 2023 (arXiv 2305.13245).
Shapes: B batch, T tokens, D model width, H query heads, G key/value heads, K head width.
"""

from __future__ import annotations

from torch import Tensor, nn

from llmkit.core.interfaces.attention import Attention, Context, KVCache, LayerCache, attend, project
from llmkit.core.site import Site
from llmkit.plugins.attention.components import MHAParams


class MultiHeadAttention(Attention):
    """H query heads over G key/value heads, (B, T, D) -> (B, T, D)."""

    residual = ("output.weight",)

    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__()
        self.heads, self.kv_heads = params.n_heads, params.kv_heads
        self.width = params.width(site.d_model)
        self.window = params.window
        self.position = site.position(self.heads, self.width)
        into = params.bias is not False
        self.query = nn.Linear(site.d_model, self.heads * self.width, bias=into)
        self.key = nn.Linear(site.d_model, self.kv_heads * self.width, bias=into)
        self.value = nn.Linear(site.d_model, self.kv_heads * self.width, bias=into)
        self.output = nn.Linear(self.heads * self.width, site.d_model, bias=params.bias is True)

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q, k, v = project(x, self.query, self.key, self.value)
        q, k, v = self._split(q), self._split(k), self._split(v)
        y = attend(q, k, v, ctx, cache, position=self.position, window=self.window)
        out: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return out

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        """Keys and values of G heads, 2 G K numbers a token; a ring where there is a window."""
        return KVCache(batch, self.kv_heads, self.width, max_len, like=like, window=self.window)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads * K) -> (B, heads, T, K)."""
        return x.view(*x.shape[:2], -1, self.width).transpose(1, 2)
