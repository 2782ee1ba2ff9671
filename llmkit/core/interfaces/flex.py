"""`attend_over` by torch's flex attention: one kernel for whatever mask and bias there is, made by the compiler.

    scores[q, k] = softcap(scale q . k) + bias(q_pos, k_pos, head)      for every pair that `sees` lets through

SDPA's fast kernels know a causal mask and no other. Where there is a window, a bias, a soft-cap, a sink, padding or packed documents,
it is given a dense mask or bias instead, B T^2 or H T^2 numbers that every layer reads, and computes what is hidden as well. Here the
mask is an expression, evaluated in the kernel where a block of 128 x 128 scores is partly visible; blocks that are hidden are skipped,
and the bias is computed where it is added. So it is taken on a GPU, in blocks that are compiled, for all that is not plainly causal.

Not on a CPU: there torch has no backward pass for it. Nor without the compiler, where torch writes the scores out.
Dong et al., arXiv 2412.05496.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from llmkit.core.interfaces.attention import Context, sees
from llmkit.core.interfaces.position import PositionHandle

BlockMasks = dict[int | None, BlockMask]


def block_masks(positions: Tensor, segments: Tensor | None, windows: Iterable[int | None], *, plain: bool) -> BlockMasks:
    """For each window, which blocks of scores are visible, and which of them wholly; positions and segments (B, T).

    `plain` as in `Context`: all rows are alike and positions count from 0, so that the masks are kept from one step to the next.
    """
    length, device = positions.shape[1], positions.device
    if plain:
        return {window: _causal(window, length, device) for window in windows}
    return {window: _of_rows(positions, segments, window) for window in windows}


def attend_flexibly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ctx: Context,
    mask: BlockMask,
    *,
    bias: PositionHandle | None,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """q (B, H, T, K) over k (B, G, T, K) and v (B, G, T, V) -> (B, H, T, V), as `attend_over` says; H a multiple of G."""
    changed = _score_mod(ctx, bias, softcap)
    grouped = q.shape[1] != k.shape[1]
    if sinks is None:
        found: Tensor = flex_attention(q, k, v, score_mod=changed, block_mask=mask, scale=scale, enable_gqa=grouped)
        return found
    y, further = flex_attention(
        q, k, v, score_mod=changed, block_mask=mask, scale=scale, enable_gqa=grouped, return_aux=AuxRequest(lse=True)
    )
    # A sink takes part in the softmax and has no value: it makes all weights smaller, by the same factor.
    assert further.lse is not None
    part = (further.lse - sinks.float()[:, None]).sigmoid()
    return y * part[..., None].to(y.dtype)


def _score_mod(ctx: Context, position: PositionHandle | None, softcap: float | None) -> Callable[..., Tensor] | None:
    """What happens to a score; None for nothing."""
    bias = None if position is None else position.bias
    if softcap is None and bias is None:
        return None
    tables = ctx.tables[position.key] if position is not None and bias is not None else {}
    positions = None if ctx.plain else ctx.positions

    def changed(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if bias is None:
            return score
        if positions is None:
            return score + bias(query, key, head, tables)
        return score + bias(positions[row, query], positions[row, key], head, tables)

    return changed


@lru_cache(maxsize=64)
def _causal(window: int | None, length: int, device: torch.device) -> BlockMask:
    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(query, key, window)

    return create_block_mask(visible, None, None, length, length, device=str(device))


def _of_rows(positions: Tensor, segments: Tensor | None, window: int | None) -> BlockMask:
    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = None if segments is None else segments[row, query]
        other = None if segments is None else segments[row, key]
        return sees(positions[row, query], positions[row, key], window, own, other)

    rows, length = positions.shape
    made: BlockMask = _creating(positions.is_cuda)(visible, rows, None, length, length, device=str(positions.device))
    return made


@cache
def _creating(compiled: bool) -> Callable[..., Any]:
    # Every step makes these anew: compiled, the B T^2 numbers that they are counted from never exist.
    return torch.compile(create_block_mask) if compiled else create_block_mask
