"""Differential attention (Ye et al. 2024, Differential Transformer, arXiv 2410.05258).

    y_h = (softmax(q1 k1^T / sqrt(K) + mask) - lambda softmax(q2 k2^T / sqrt(K) + mask)) v
    lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_0
    lambda_0 = 0.8 - 0.6 exp(-0.3 l),  l = 0 in the first layer
    y = output((1 - lambda_0) norm(y_h) of all heads h)

What both softmaxes give to tokens that do not matter cancels, as noise does in a differential amplifier. lambda_0 alone depends on
the layer; (1 - lambda_0) keeps what flows back through a head as large as in a Transformer.

Shapes: B batch, T tokens, D model width, H heads, G key/value heads, K width of each query and key; values are 2 K wide.
Queries and keys lie as 2 H and 2 G heads: those of the first softmax, then those of the second.
Cost: 4 D K (H + G) weights; a cache of 4 G K numbers a token: with half as many heads, as much as multi-head attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Attention, Context, KVCache, LayerCache, attend_over, project, turn
from llmkit.core.site import Site
from llmkit.plugins.attention.components import DifferentialParams


class DifferentialAttention(Attention):
    """H heads of two softmaxes each over G key/value heads, (B, T, D) -> (B, T, D)."""

    residual = ("output.weight",)
    context_parallel = True
    layer: Tensor

    def __init__(self, params: DifferentialParams, site: Site) -> None:
        super().__init__()
        self.heads, self.kv_heads = params.n_heads, params.kv_heads
        self.width = params.width(site.d_model)
        self.window = params.window
        self.position = site.position(self.heads, self.width)
        self.query = nn.Linear(site.d_model, 2 * self.heads * self.width, bias=False)
        self.key = nn.Linear(site.d_model, 2 * self.kv_heads * self.width, bias=False)
        self.value = nn.Linear(site.d_model, 2 * self.kv_heads * self.width, bias=False)
        self.output = nn.Linear(2 * self.heads * self.width, site.d_model, bias=False)
        self.norm = site.make("norm", params.norm, width=2 * self.width)
        self.lambda_q1, self.lambda_k1 = nn.Parameter(torch.zeros(self.width)), nn.Parameter(torch.zeros(self.width))
        self.lambda_q2, self.lambda_k2 = nn.Parameter(torch.zeros(self.width)), nn.Parameter(torch.zeros(self.width))
        self._depth = site.layer
        # A tensor, because a number would be a compilation for every layer; whole, because bf16 would round lambda_0.
        self.register_buffer("layer", torch.tensor(site.layer), persistent=False)

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q, k, v = (self._split(part) for part in project(x, self.query, self.key, self.value))
        q, k, k_pos = turn(q, self.position, ctx), turn(k, self.position, ctx), None
        if cache is not None:
            if not isinstance(cache, KVCache):
                raise TypeError(f"differential needs a KVCache from new_cache, got {type(cache).__name__}")
            k, v, k_pos = cache.update(k, v, ctx.positions)
        # Values are remembered as two halves, so that a cache of keys and values of one width holds them.
        v = torch.cat(v.chunk(2, dim=1), dim=3)
        first, second = (
            attend_over(q_i, k_i, v, ctx, k_pos, bias=self.position, window=self.window)
            for q_i, k_i in zip(q.chunk(2, dim=1), k.chunk(2, dim=1), strict=True)
        )
        start = 0.8 - 0.6 * torch.exp(-0.3 * self.layer)
        difference = first - (self._learned() + start).to(x.dtype) * second
        y = self.norm(difference) * (1 - start).to(x.dtype)
        out: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return out

    def reset_buffers(self) -> None:
        """The number of the layer, lost on the meta device."""
        self.layer.fill_(self._depth)

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """The vectors of lambda start as the paper's, with a deviation of 0.1."""
        return 0.1 * torch.randn(shape, generator=generator) if name.startswith("lambda_") else None

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        """Two keys and a value of twice their width for each of G heads, 4 G K numbers a token; a ring where there is a window."""
        return KVCache(batch, 2 * self.kv_heads, self.width, max_len, like=like, window=self.window)

    def _learned(self) -> Tensor:
        """What lambda has learned, a number in fp32, at first near zero."""
        first = (self.lambda_q1.float() * self.lambda_k1.float()).sum()
        second = (self.lambda_q2.float() * self.lambda_k2.float()).sum()
        return first.exp() - second.exp()

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads * K) -> (B, heads, T, K)."""
        return x.view(*x.shape[:2], -1, self.width).transpose(1, 2)
