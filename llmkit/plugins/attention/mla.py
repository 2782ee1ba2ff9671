"""Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434, section 2.1).

    c = norm(latent_down(x))                                  L numbers a token: all that is remembered, besides
    r = turn(rotary_key(x))                                   R numbers, one turned key for all heads
    q = query_up(norm(query_down(x))), or query(x)            each head [N channels as they are, R turned]
    k_h = [key_up(c)_h, r],  v_h = value_up(c)_h
    y = output(softmax(q k^T / sqrt(N + R) + mask) v)

Without a cache, keys and values of all heads are made from the latents, as written. With one, whichever takes fewer products: that
again (a long prompt), or the up-projections are absorbed into the query and the result (a decode step),

    q_h . key_up(c)_h = (key_up_h^T q_h) . c,        sum_j w_j value_up(c_j)_h = value_up_h (sum_j w_j c_j)

and the latents are attended over as they lie, by all heads, as if they were one head of keys and values.

Shapes: B batch, T tokens, S slots, D model width, H heads, L latent width, N and R channels of a head unturned and turned,
V channels of a value.
Cost: D (L + R) + L H (N + V) + H V D weights and those of the queries; a cache of L + R numbers a token, however many heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Attention, Context, LayerCache, TokenCache, attend_over, is_plain, project, turn
from llmkit.core.site import Site
from llmkit.plugins.attention.components import MLAParams


class LatentCache(TokenCache):
    """The latent and the turned key of every token, side by side: L + R numbers."""

    def __init__(self, batch: int, latent: int, turned: int, max_len: int, *, like: Tensor) -> None:
        super().__init__(batch, 1, (latent + turned,), max_len, like=like)

    def update(self, new: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new (B, 1, T, L + R) at positions (B, T); return all to attend over, and their positions."""
        (held,), k_pos = self.remember((new,), positions)
        return held, k_pos


class LatentAttention(Attention):
    """H heads over latents, (B, T, D) -> (B, T, D)."""

    reads_weights = ("key_up", "value_up")
    residual = ("output.weight",)
    context_parallel = True
    parallel: Mapping[str, str] = {
        "query": "heads", "query_up": "heads", "key_up": "heads", "value_up": "heads", "rotary_key": "shared", "output": "row",
    }  # fmt: skip

    def __init__(self, params: MLAParams, site: Site) -> None:
        super().__init__()
        self.heads, self.latent = params.n_heads, params.kv_lora_rank
        self.unturned, self.turned, self.value_width = params.nope_head_width, params.rope_head_width, params.value_head_width
        width = self.unturned + self.turned
        self.scale = width**-0.5 if params.scale is None else params.scale
        self.position = site.position(self.heads, self.turned)
        self.compressed = params.q_lora_rank is not None
        if params.q_lora_rank is not None:
            self.query_down = nn.Linear(site.d_model, params.q_lora_rank, bias=False)
            self.query_norm = site.make("query_norm", params.norm, width=params.q_lora_rank)
            self.query_up = nn.Linear(params.q_lora_rank, self.heads * width, bias=False)
        else:
            self.query = nn.Linear(site.d_model, self.heads * width, bias=False)
        self.latent_down = nn.Linear(site.d_model, self.latent, bias=False)
        self.latent_norm = site.make("latent_norm", params.norm, width=self.latent)
        self.rotary_key = nn.Linear(site.d_model, self.turned, bias=False)
        self.key_up = nn.Linear(self.latent, self.heads * self.unturned, bias=False)
        self.value_up = nn.Linear(self.latent, self.heads * self.value_width, bias=False)
        self.output = nn.Linear(self.heads * self.value_width, site.d_model, bias=False)

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        query, latent, key = project(x, self.query_down if self.compressed else self.query, self.latent_down, self.rotary_key)
        q = self._split(self.query_up(self.query_norm(query)) if self.compressed else query)
        q, q_turned = torch.split(q, [self.unturned, self.turned], dim=3)
        q_turned = turn(q_turned, self.position, ctx)
        kept = torch.cat([self.latent_norm(latent)[:, None], turn(key[:, None], self.position, ctx)], dim=3)
        k_pos = None
        if cache is not None:
            if not isinstance(cache, LatentCache):
                raise TypeError(f"mla needs a LatentCache from new_cache, got {type(cache).__name__}")
            kept, k_pos = cache.update(kept, ctx.positions)
            kept = kept.to(q.dtype)
        attend = self._absorbed if cache is not None and self._absorbing_is_less(q.shape[2], kept.shape[2]) else self._expanded
        y = attend(q, q_turned, kept, ctx, k_pos)
        out: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return out

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> LatentCache:
        """Latents and turned keys alone, L + R numbers a token."""
        return LatentCache(batch, self.latent, self.turned, max_len, like=like)

    def _expanded(self, q: Tensor, q_turned: Tensor, kept: Tensor, ctx: Context, k_pos: Tensor | None) -> Tensor:
        """Keys and values of every head, made from the latents: (B, H, T, V)."""
        latent, key = torch.split(kept, [self.latent, self.turned], dim=3)
        k, v = (self._split(part) for part in project(latent[:, 0], self.key_up, self.value_up))
        k = torch.cat([k, key.expand(-1, self.heads, -1, -1)], dim=3)
        return attend_over(torch.cat([q, q_turned], dim=3), k, v, ctx, k_pos, bias=self.position, scale=self.scale)

    def _absorbed(self, q: Tensor, q_turned: Tensor, kept: Tensor, ctx: Context, k_pos: Tensor | None) -> Tensor:
        """Queries over the latents themselves: (B, H, T, V)."""
        key_up = self.key_up.weight.view(self.heads, self.unturned, self.latent)
        value_up = self.value_up.weight.view(self.heads, self.value_width, self.latent)
        q = torch.cat([q @ key_up, q_turned], dim=3)
        # The turned key rides along as a value, which costs less than a copy of the latents without it.
        y = attend_over(q, kept, kept, ctx, k_pos, bias=self.position, scale=self.scale)
        return y[..., : self.latent] @ value_up.transpose(1, 2)

    def _absorbing_is_less(self, queries: int, slots: int) -> bool:
        """Whether absorbing takes fewer products a head than making the keys and values of all slots: by shapes alone.

        Only where the up-projections are their weights: an adapter or an int8 layer has to be called.
        """
        if not (is_plain(self.key_up) and is_plain(self.value_up)):
            return False
        up = self.latent * (self.unturned + self.value_width)
        absorbed = queries * (up + slots * 2 * (self.latent + self.turned))
        expanded = slots * (up + queries * (self.unturned + self.turned + self.value_width))
        return absorbed < expanded

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, H * width) -> (B, H, T, width)."""
        return torch.unflatten(x, 2, (self.heads, -1)).transpose(1, 2)
