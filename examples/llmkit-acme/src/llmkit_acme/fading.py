"""Attention without a softmax, whose memory fades: a score halves with every half-life of distance (RetNet, arXiv 2307.08621).

    y[t] = sum over s <= t of 2^(-rate (t - s)) (q[t] . k[s]) v[s],    rate of head h = 2^h / half_life

Read left to right it is a sum that fades, M[t] = 2^-rate M[t-1] + k[t] v[t]^T and y[t] = q[t] M[t], so that the cache of a
sequence is one matrix a head, however long the sequence. Shapes: B batch, T tokens, D model width, H heads, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit import Attention, Site, project
from llmkit.core.interfaces.attention import Context, visible
from llmkit_acme import FadingParams


class Memory:
    """What one layer remembers: M (B, H, K, K), as of position `last` (B,), which is -1 before the first token."""

    def __init__(self, batch: int, heads: int, width: int, *, like: Tensor) -> None:
        self.sum = like.new_zeros(batch, heads, width, width)
        self.last = torch.full((batch,), -1, device=like.device)

    @property
    def nbytes(self) -> int:
        return self.sum.numel() * self.sum.element_size()

    def select(self, rows: Tensor) -> None:
        self.sum, self.last = self.sum[rows], self.last[rows]

    def refusal(self, n: int) -> str | None:
        return "a fading sum cannot be taken apart" if bool((self.last >= n).any()) else None

    def truncate(self, n: int) -> None:
        reason = self.refusal(n)
        if reason is not None:
            raise ValueError(f"cannot truncate the memory to {n} positions: {reason}")


class FadingAttention(Attention):
    """H heads that forget at different rates, (B, T, D) -> (B, T, D)."""

    def __init__(self, params: FadingParams, site: Site) -> None:
        super().__init__()
        self.heads, self.half_life = params.n_heads, params.half_life
        self.width = site.d_model // params.n_heads
        inner = self.heads * self.width
        self.query, self.key, self.value = (nn.Linear(site.d_model, inner, bias=False) for _ in range(3))
        self.output = nn.Linear(inner, site.d_model, bias=False)

    def forward(self, x: Tensor, ctx: Context, cache: Memory | None = None) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in project(x, self.query, self.key, self.value))
        q = q * self.width**-0.5
        at = ctx.positions[:, None]
        seen = visible(ctx.positions, ctx.positions, None, ctx.segments, ctx.segments)
        weights = self._fade(at[..., None] - at[:, :, None], x).masked_fill(~seen, 0)
        y = (q @ k.mT * weights) @ v
        if cache is not None:
            last, now = cache.last[:, None], torch.maximum(cache.last, ctx.positions.amax(dim=1))[:, None]
            y = y + self._fade(at - last[..., None], x)[..., None] * (q @ cache.sum)
            # Padding has position -1, and adds nothing.
            kept = (self._fade(now[..., None] - at, x) * (at >= 0))[..., None] * k
            cache.sum.copy_(self._fade(now - last, x)[..., None, None] * cache.sum + kept.mT @ v)
            cache.last.copy_(now[:, 0])
        return self.output(y.transpose(1, 2).flatten(2))

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> Memory:
        return Memory(batch, self.heads, self.width, like=like)

    def _fade(self, distance: Tensor, like: Tensor) -> Tensor:
        """2^(-rate distance), a head's own rate each: (B, 1, ...) -> (B, H, ...) in the dtype of `like`."""
        rates = torch.exp2(torch.arange(self.heads, device=like.device)) / self.half_life
        rates = rates.view(-1, *[1] * (distance.dim() - 2))
        return torch.exp2(-rates * distance.clamp(min=0)).to(like.dtype)
