"""Multi-head attention, and its two economies: one mechanism that differs in how many heads keys and values have.

        mha              gqa              mqa
    v   | | | |           |   |            |
    k   | | | |           |   |            |
        : : : :          / \\ / \\        / / \\ \\
    q   | | | |          | | | |          | | | |

    y = output(softmax(q k^T / sqrt(K) + mask) v),  q, k, v = projections of x

What a spec may add, in the order in which it happens:

    qk_norm  q, k = norm(q), norm'(k), before they are turned: scores stay bounded (Dehghani et al. 2023, arXiv 2302.05442)
    scale    q k^T times this instead of 1 / sqrt(K)
    softcap  s = c tanh(s / c) for every score (Gemma 2, arXiv 2408.00118)
    sinks    weights = exp(s_j) / (exp(sink) + sum_j exp(s_j)): a head may attend to nothing (gpt-oss; arXiv 2309.17453)
    gate     y = output(sigmoid(gate(x)) * attention): a head or a channel may be shut (Qiu et al. 2025, arXiv 2505.06708)

mha: Vaswani et al. 2017 (arXiv 1706.03762); mqa: Shazeer 2019 (arXiv 1911.02150); gqa: Ainslie et al. 2023 (arXiv 2305.13245).
Shapes: B batch, T tokens, D model width, H query heads, G key/value heads, K head width.
Cost: 2 D K (H + G) weights, D H or D H K more with a gate; 2 T^2 H K multiply-adds a sequence; a cache of 2 G K numbers a token.
Soft-cap and sinks are beyond the fast kernels: the scores, T^2 H numbers, then lie in memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Attention, Context, KVCache, LayerCache, attend, project
from llmkit.core.site import Site
from llmkit.plugins.attention.components import MHAParams


class MultiHeadAttention(Attention):
    """H query heads over G key/value heads, (B, T, D) -> (B, T, D)."""

    residual = ("output.weight",)
    context_parallel = True
    parallel: Mapping[str, str] = {
        "query": "heads", "key": "kv_heads", "value": "kv_heads", "gate": "heads", "sinks": "heads", "output": "row",
        "query_norm": "partial", "key_norm": "partial",
    }  # fmt: skip

    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__()
        self.heads, self.kv_heads = params.n_heads, params.kv_heads
        self.width = params.width(site.d_model)
        self.window, self.scale, self.softcap = params.window, params.scale, params.softcap
        self.position = site.position(self.heads, self.width)
        into = params.bias is not False
        self.query = nn.Linear(site.d_model, self.heads * self.width, bias=into)
        self.key = nn.Linear(site.d_model, self.kv_heads * self.width, bias=into)
        self.value = nn.Linear(site.d_model, self.kv_heads * self.width, bias=into)
        self.output = nn.Linear(self.heads * self.width, site.d_model, bias=params.bias is True)
        self.norm_over = None if params.qk_norm is None else params.qk_norm_over
        if self.norm_over == "width":
            # A norm over all heads cannot be taken of some.
            self.parallel = {}
        if params.qk_norm is not None:
            self.query_norm = site.make("query_norm", params.qk_norm, width=params.normed(site.d_model, self.heads))
            self.key_norm = site.make("key_norm", params.qk_norm, width=params.normed(site.d_model, self.kv_heads))
        self.gated = params.gate is not False
        if self.gated:
            gates = self.heads * (self.width if params.gate == "channel" else 1)
            self.gate = nn.Linear(site.d_model, gates, bias=params.bias is True)
        self.sinks = nn.Parameter(torch.zeros(self.heads)) if params.sinks else None

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q, k, v, *gate = project(x, self.query, self.key, self.value, *([self.gate] if self.gated else []))
        if self.norm_over == "width":
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = self._split(q), self._split(k), self._split(v)
        if self.norm_over == "head":
            q, k = self.query_norm(q), self.key_norm(k)
        y = attend(
            q, k, v, ctx, cache, position=self.position, window=self.window, scale=self.scale, softcap=self.softcap, sinks=self.sinks
        ).transpose(1, 2)
        if self.gated:
            y = y * torch.unflatten(gate[0].sigmoid(), -1, (self.heads, -1))
        out: Tensor = self.output(y.flatten(2))
        return out

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """Sinks start as a score of zero: every head has one token more to look at, which says nothing."""
        return torch.zeros(shape) if name == "sinks" else None

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        """Keys and values of G heads, 2 G K numbers a token; a ring where there is a window."""
        return KVCache(batch, self.kv_heads, self.width, max_len, like=like, window=self.window)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads * K) -> (B, heads, T, K)."""
        return x.view(*x.shape[:2], -1, self.width).transpose(1, 2)
