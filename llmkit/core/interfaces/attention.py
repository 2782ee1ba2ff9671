"""Attention: how tokens read each other. The interface, the cache, and `attend`, which most attentions end in.

Shapes: B batch, T query tokens, S key slots, D model width, H query heads, G key/value heads, K head width.

Positions, not lengths, are the language between cache, mask and position encoding. A key is visible where
`0 <= q_pos - k_pos < window`, in the same document, and its slot is not empty (an empty slot, and padding, has position -1).
Causality, sliding windows, ring buffers, left padding and packed documents are that one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.position import Bias, PositionHandle, Tables

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Gathered(NamedTuple):
    """Where a sequence is cut over ranks (context parallelism): what its queries here read of the others.

    positions  (B, S) int64, of all tokens of the sequence
    segments   (B, S) int64 or None
    gather     (B, G, T, K) of this rank's tokens -> (B, G, S, K) of all
    """

    positions: Tensor
    segments: Tensor | None
    gather: Callable[[Tensor], Tensor]


class Context(NamedTuple):
    """What all layers of one forward pass share.

    positions  (B, T) int64: absolute position of every query token, -1 for padding
    tables     of each position encoding, by the handle's key
    segments   (B, T) int64: the document of every token where documents are packed, else None
    masks      window -> (B, 1, T, T) bool, True where visible; made once per distinct window where there is no cache.
               Where `plain`, all rows are alike and the first dimension is 1
    plain      no cache, no padding, no packing: set by the caller, never read off a tensor
    gathered   where the sequence is cut over ranks: what lies on the others, else None; masks are then (B, 1, T, S)
    blocks     window -> flex attention's mask, in place of `masks`, where attention goes that way (`flex`); else None
    """

    positions: Tensor
    tables: Mapping[str, Tables]
    segments: Tensor | None
    masks: Mapping[int | None, Tensor]
    plain: bool
    gathered: Gathered | None = None
    blocks: Mapping[int | None, BlockMask] | None = None


class LayerCache(Protocol):
    """What one layer remembers between calls: made by the layer, owned by the caller, never a module's attribute."""

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered of tokens (keys and values), without bookkeeping."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep these batch rows, in this order (beam search, finished rows)."""
        ...

    def refusal(self, n: int) -> str | None:
        """Why `truncate(n)` cannot be done, or None where it can."""
        ...

    def truncate(self, n: int) -> None:
        """Forget all positions from n on; `ValueError` with the reason where that cannot be done."""
        ...


class Attention(nn.Module):
    """An attention, or anything else that mixes tokens, built with `(params, site)`.

    A newcomer's attention needs `__init__`, `forward`, `new_cache` and nothing else. Where it has a sliding window, an attribute
    `window` lets the model make the mask once. It declares the position traits that it serves (`rotate`, `bias`) in `offers`.

    `residual = ("output.weight",)` names its own parameters that write into the residual stream: an `init` may make those smaller.
    `parallel = {"query": "heads", "key": "kv_heads", "value": "kv_heads", "output": "row"}` offers a plan for tensor parallelism: how
    its own linear layers, other modules and parameters are cut over ranks (`llmkit.train.parallel.tensor` has the words: an attribute
    that counts heads, `column`, `row`, `partial`, `shared`). Without one it is computed whole by every rank, and is as right.
    `context_parallel = True` says that it reads other tokens through `attend` or `attend_over` alone: a sequence may then be cut.

    `reads_weights = ("key_up",)` names linear layers whose weights it reads itself instead of calling them: they are never packed.

    FLOPs are counted by running it on the meta device. Where that misses something, a method `flops(length) -> int` says how many
    one forward pass over a sequence takes, a multiply-add as two; it is then not run there.
    """

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D). With a cache, the T new tokens read what it holds and are added to it."""
        raise NotImplementedError

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> LayerCache:
        """An empty cache for `batch` rows of up to `max_len` positions, in the dtype and on the device of `like`."""
        raise NotImplementedError


class TokenCache:
    """What is remembered of tokens, one tensor or several, and the positions. With a window it is a ring of min(max_len, window) slots.

    The slot of a token is its position (modulo the size of a ring), so that rows of unequal length need no alignment and a
    forward pass writes without asking a tensor anything. One spare slot behind the others takes what is not to be kept:
    padding, and what a ring would overwrite at once. It is never read and not counted in `nbytes`.

    widths  of what is remembered: each is a tensor (B, heads, slots, width)
    """

    def __init__(self, batch: int, heads: int, widths: Sequence[int], max_len: int, *, like: Tensor, window: int | None = None) -> None:
        self.size = max_len if window is None else min(max_len, window)
        self.ring = window is not None and window < max_len
        # Zeroed, because a NaN in a masked slot would leak: 0 * NaN is NaN.
        self._kept = [like.new_zeros(batch, heads, self.size + 1, width) for width in widths]
        self._positions = torch.full((batch, self.size + 1), -1, dtype=torch.int64, device=like.device)

    @property
    def nbytes(self) -> int:
        held = [kept[:, :, : self.size] for kept in self._kept]
        return sum(one.numel() * one.element_size() for one in held)

    def remember(self, new: Sequence[Tensor], positions: Tensor) -> tuple[list[Tensor], Tensor]:
        """Add what is new, (B, heads, T, width) each, at positions (B, T); return all to attend over, and their positions.

        A ring returns what it held and the new chunk together, because a chunk may overwrite what its own first tokens read.
        """
        if not self.ring:
            self._write(new, positions)
            return [kept[:, :, : self.size] for kept in self._kept], self._positions[:, : self.size]
        held = [torch.cat([kept[:, :, : self.size], chunk], dim=2) for kept, chunk in zip(self._kept, new, strict=True)]
        k_pos = torch.cat([self._positions[:, : self.size], positions], dim=1)
        self._write(new, positions)
        return held, k_pos

    def _write(self, new: Sequence[Tensor], positions: Tensor) -> None:
        keep = positions >= 0
        slots = positions
        if self.ring:
            keep = keep & (positions > positions.amax(dim=1, keepdim=True) - self.size)
            slots = positions % self.size
        slots = torch.where(keep, slots, self.size)
        # Assigned by index and not scattered: a compiled step then writes in place, where it would copy the whole cache twice.
        rows = torch.arange(len(slots), device=slots.device)[:, None]
        for kept, chunk in zip(self._kept, new, strict=True):
            kept[rows, :, slots] = chunk.transpose(1, 2).to(kept.dtype)
        self._positions[rows, slots] = torch.where(keep, positions, -1)

    def select(self, rows: Tensor) -> None:
        self._kept, self._positions = [kept[rows] for kept in self._kept], self._positions[rows]

    def refusal(self, n: int) -> str | None:
        wrapped = self.ring and bool((self._positions >= self.size).any())
        if wrapped and bool((self._positions >= n).any()):
            return f"a ring of {self.size} positions has wrapped, so what stood before position {n} is gone"
        return None

    def truncate(self, n: int) -> None:
        reason = self.refusal(n)
        if reason is not None:
            raise ValueError(f"cannot truncate the cache to {n} positions: {reason}")
        self._positions.masked_fill_(self._positions >= n, -1)


class KVCache(TokenCache):
    """Keys (after rotation) and values of G heads, 2 G K numbers a token; with a window a ring of min(max_len, window) slots."""

    def __init__(self, batch: int, kv_heads: int, width: int, max_len: int, *, like: Tensor, window: int | None = None) -> None:
        super().__init__(batch, kv_heads, (width, width), max_len, like=like, window=window)

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the new keys and values (B, G, T, K) at positions (B, T); return all to attend over, and their positions."""
        (keys, values), k_pos = self.remember((k, v), positions)
        return keys, values, k_pos


class Caches:
    """The caches of all layers. `seen` (B,) counts the tokens that are no padding; the model advances it once, after all layers."""

    def __init__(self, seen: Tensor, layers: list[LayerCache]) -> None:
        self.seen = seen
        self.layers = layers

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values over all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def select(self, rows: Tensor) -> Self:
        """Keep these batch rows, in this order."""
        self.seen = self.seen[rows]
        for layer in self.layers:
            layer.select(rows)
        return self

    def truncate(self, n: int) -> None:
        """Forget all positions from n on, in every layer or, with a `ValueError`, in none."""
        for index, layer in enumerate(self.layers):
            reason = layer.refusal(n)
            if reason is not None:
                raise ValueError(f"cannot truncate the caches to {n} positions: layer {index}: {reason}")
        for layer in self.layers:
            layer.truncate(n)
        self.seen.clamp_(max=n)


def visible(q_pos: Tensor, k_pos: Tensor, window: int | None, q_segments: Tensor | None = None, k_segments: Tensor | None = None) -> Tensor:
    """The one mask: q_pos (B, T), k_pos (B, S) -> (B, 1, T, S) bool, True where the query may read the key.

    Padding queries see everything: their output is thrown away, but a row of nothing would be NaN.
    """
    known = q_segments is not None and k_segments is not None
    segments = (q_segments[:, :, None], k_segments[:, None, :]) if known else ()  # type: ignore[index]
    return sees(q_pos[:, :, None], k_pos[:, None, :], window, *segments)[:, None]


def sees(q_pos: Tensor, k_pos: Tensor, window: int | None, q_segment: Tensor | None = None, k_segment: Tensor | None = None) -> Tensor:
    """The expression of the mask, elementwise: of tensors that broadcast -> bool of their common shape."""
    distance = q_pos - k_pos
    seen = (distance >= 0) & (k_pos >= 0)
    if window is not None:
        seen = seen & (distance < window)
    if q_segment is not None and k_segment is not None:
        seen = seen & (q_segment == k_segment)
    return seen | (q_pos < 0)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ctx: Context,
    cache: LayerCache | None = None,
    *,
    position: PositionHandle | None = None,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Causal attention of q (B, H, T, K) over k, v (B, G, T, K), H a multiple of G -> (B, H, T, K).

    It rotates, caches, masks and biases, so that an attention which only projects differently ends in one call.

    position  the handle from `site.position(H, K)`
    window    a query sees its own and the window - 1 positions before it
    scale     of the scores; 1 / sqrt(K) unless given
    softcap   scores become softcap * tanh(scores / softcap) (Gemma 2, arXiv 2408.00118)
    sinks     (H,) logits that take part in the softmax and have no value (gpt-oss; arXiv 2309.17453)
    """
    if position is not None:
        q, k = turn(q, position, ctx), turn(k, position, ctx)
    k_pos = None
    if cache is not None:
        if not isinstance(cache, KVCache):
            raise TypeError(f"attend needs a KVCache from new_cache, got {type(cache).__name__}")
        k, v, k_pos = cache.update(k, v, ctx.positions)
    return attend_over(q, k, v, ctx, k_pos, bias=position, window=window, scale=scale, softcap=softcap, sinks=sinks)


def turn(x: Tensor, position: PositionHandle, ctx: Context) -> Tensor:
    """x (B, H, T, K) of the tokens of this forward pass, with the leading channels turned that the position turns."""
    if not position.width:
        return x
    tables = ctx.tables[position.key]
    if position.width == x.shape[-1]:
        return position.rotate(x, tables)
    return torch.cat([position.rotate(x[..., : position.width], tables), x[..., position.width :]], dim=-1)


def attend_over(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ctx: Context,
    k_pos: Tensor | None = None,
    *,
    bias: PositionHandle | None = None,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The second half of `attend`, for an attention that rotates and remembers in a way of its own.

    q (B, H, T, K) over k (B, G, S, K) and v (B, G, S, V), V any width -> (B, H, T, V).

    k_pos  (B, S): positions of the keys, from the cache; without a cache None: keys are those of the queries' own tokens
    bias   the position whose bias is added to the scores; it turns nothing here
    """
    cached = k_pos is not None
    if k_pos is None and ctx.gathered is not None:
        k, v, k_pos = ctx.gathered.gather(k), ctx.gathered.gather(v), ctx.gathered.positions
    k_pos = ctx.positions if k_pos is None else k_pos
    k, v = k.to(q.dtype), v.to(q.dtype)
    biased = bias is not None and bias.bias is not None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    # A sink beside a single query is written out, since the fast way would copy the cache at every step; and on the meta device,
    # where nothing is computed and products are counted: those that the mathematics has, without what a kernel wants padded.
    written_out = softcap is not None or (sinks is not None and (q.shape[2] == 1 or q.is_meta)) or (cached and _as_a_loop(q.shape[2], k))
    if ctx.plain and not cached and window is None and not biased and not written_out:
        return _fast(q, k, v, None, scale, sinks) if sinks is not None else _causal(q, k, v, scale)
    if ctx.blocks is not None and window in ctx.blocks and not cached:
        from llmkit.core.interfaces.flex import attend_flexibly

        return attend_flexibly(q, k, v, ctx, ctx.blocks[window], bias=bias, scale=scale, softcap=softcap, sinks=sinks)
    mask = _mask(ctx, k_pos, window, cached=cached)
    # Rows that are alike share one bias: B times less of the largest tensor here.
    rows = slice(0, 1) if ctx.plain else slice(None)
    scores_bias = None
    if bias is not None and bias.bias is not None:
        scores_bias = _bias(bias.bias, ctx.positions[rows], k_pos[rows], q.shape[1], ctx.tables[bias.key])
    if written_out:
        return _written_out(q, k, v, mask, scores_bias, scale, softcap, sinks)
    if scores_bias is not None:
        mask = scores_bias.to(q.dtype).masked_fill(~mask, float("-inf"))
    return _fast(q, k, v, mask, scale, sinks)


def _mask(ctx: Context, k_pos: Tensor, window: int | None, *, cached: bool) -> Tensor:
    if cached:
        return visible(ctx.positions, k_pos, window)
    if window in ctx.masks:
        return ctx.masks[window]
    if ctx.plain:
        return visible(ctx.positions[:1], k_pos[:1], window)
    return visible(ctx.positions, k_pos, window, ctx.segments, ctx.segments if ctx.gathered is None else ctx.gathered.segments)


def _bias(bias: Bias, q_pos: Tensor, k_pos: Tensor, heads: int, tables: Tables) -> Tensor:
    head = torch.arange(heads, device=q_pos.device)[None, :, None, None]
    return bias(q_pos[:, None, :, None], k_pos[:, None, None, :], head, tables)


def _fast(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, sinks: Tensor | None) -> Tensor:
    """SDPA, which chooses its kernel, with what keeps it from its fast ones out of the way. Without a mask it is causal."""
    length, width = q.shape[2], v.shape[3]
    causal = mask is None
    if sinks is not None:
        q, k, v = _with_a_sink(q, k, v, sinks, scale)
        # The sink is the first key, so that a first query which nobody asked for keeps the diagonal where it was.
        q = F.pad(q, (0, 0, 1, 0)) if causal else q
        mask = None if mask is None else F.pad(mask, (1, 0), value=mask.dtype is torch.bool)
    # The fast kernels want values as wide as keys, and zeros cost less than the kernel that does without: at 1024 tokens, 96 and 64
    # channels wide, a third of the time. A single query would pay for a copy of its cache.
    if q.shape[3] != v.shape[3] and length > 1 and not q.is_meta:
        common = max(q.shape[3], v.shape[3])
        q, k, v = (F.pad(x, (0, common - x.shape[3])) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=k.shape[1] != q.shape[1])
    return y[:, :, -length:, :width]


BLOCK, SHORT = 128, 1024
"""Queries that are attended for at once on a CPU, in texts of up to so many: a block reads no key that is later than all of it."""


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Plain causal attention, as it is fastest here."""
    if _short_and_low(q):
        return _in_blocks(q, k, v, scale)
    if q.device.type == "cpu" and BLOCK < q.shape[2] <= SHORT:
        return _fast_in_blocks(q, k, v, scale)
    return _fast(q, k, v, None, scale, None)


def _fast_in_blocks(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """SDPA over the keys up to a block's end: its kernel takes 512 keys at once, seen or not. 8 heads over 2, T = 512, 4 rows, fp32,
    forward and backward: 41 ms against 54."""
    outs = []
    for start in range(0, q.shape[2], BLOCK):
        rows = q[:, :, start : start + BLOCK]
        end = start + rows.shape[2]
        seen = torch.ones(rows.shape[2], end, dtype=torch.bool, device=q.device).tril(start) if start else None
        outs.append(_fast(rows, k[:, :, :end], v[:, :, :end], seen, scale, None))
    return torch.cat(outs, dim=2)


def _short_and_low(q: Tensor) -> bool:
    """Whether plain products beat SDPA's kernel, which computes bf16 in fp32 on a CPU. Forward and backward, in milliseconds, on two
    cores with AVX-512: 8 heads over 2, T = 512, 4 rows: 20 against 51; 6 heads, T = 256, 8 rows: 30 against 44. In fp32 SDPA's is
    faster, and for longer texts the weights, H T^2 numbers that live until the backward pass, are too many.
    """
    return q.dtype is torch.bfloat16 and q.device.type == "cpu" and q.shape[2] <= SHORT


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Plain causal attention as batched products, a block of queries at a time over the keys up to its end."""
    batch, heads, length, groups = *q.shape[:3], k.shape[1]
    stacked = torch.unflatten(q * scale, 1, (groups, -1))
    keys = k.transpose(-1, -2)
    outs = []
    for start in range(0, length, BLOCK):
        rows = stacked[:, :, :, start : start + BLOCK]
        size = rows.shape[3]
        scores = rows.flatten(2, 3) @ keys[..., : start + size]
        later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
        hidden = torch.zeros(size, size, dtype=q.dtype, device=q.device).masked_fill(later, float("-inf"))
        weights = (torch.unflatten(scores, 2, (-1, size)) + F.pad(hidden, (start, 0))).softmax(dim=-1)
        outs.append(torch.unflatten(weights.flatten(2, 3) @ v[:, :, : start + size], 2, (-1, size)))
    return torch.cat(outs, dim=3).reshape(batch, heads, length, v.shape[3])


def _with_a_sink(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """One more key before the others, whose score is the sink's logit and whose value is nothing.

    Queries get a channel more, which holds the logit, and only that key reads it: no mask of H T S numbers is needed.
    """
    logit = (sinks / scale).to(q.dtype)[None, :, None, None].expand(q.shape[0], -1, q.shape[2], 1)
    # Eight channels and not one, because kernels are made for widths in eights.
    q = F.pad(torch.cat([q, logit], dim=3), (0, 7))
    channel = torch.arange(k.shape[3] + 8, device=k.device) == k.shape[3]
    sink = channel.to(k.dtype).expand(k.shape[0], k.shape[1], 1, -1)
    return q, torch.cat([sink, F.pad(k, (0, 8))], dim=2), F.pad(v, (0, 8, 1, 0))


def _written_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """The attention that SDPA cannot say: softmax in fp32."""
    heads, length = q.shape[1], q.shape[2]
    # The queries of a group are stacked over its one key head: repeating keys and values would copy the cache at every step.
    stacked = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
    scores = _scores(stacked, k, length).view(q.shape[0], heads, length, -1) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        sink = sinks.float()[None, :, None, None].expand(scores.shape[0], -1, scores.shape[2], 1)
        scores = torch.cat([scores, sink], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[2]]
    return _mixed(weights.reshape(*stacked.shape[:3], -1), v, length).view(q.shape[0], heads, length, -1)


def _as_a_loop(length: int, cache: Tensor) -> bool:
    """Whether a compiler makes the two products of a decoding step into loops of its own: a single query on a CPU is all reading
    of the cache, which that does faster than kernels made for many queries: 240 steps a second against 175 at a cache of 512,
    in a model of 8 layers of width 512.
    """
    return length == 1 and cache.device.type == "cpu" and torch.compiler.is_compiling()


def _scores(stacked: Tensor, k: Tensor, length: int) -> Tensor:
    """(B, G, R, K) and (B, G, S, K) -> their products (B, G, R, S), fp32."""
    if _as_a_loop(length, k):
        return (stacked[:, :, :, None].float() * k[:, :, None].float()).sum(dim=-1)
    return (stacked @ k.transpose(-1, -2)).float()


def _mixed(weights: Tensor, v: Tensor, length: int) -> Tensor:
    """(B, G, R, S), fp32, and (B, G, S, V) -> the values mixed, (B, G, R, V), in their dtype."""
    if _as_a_loop(length, v):
        return (weights[..., None] * v[:, :, None].float()).sum(dim=-2).to(v.dtype)
    return weights.to(v.dtype) @ v


def project(x: Tensor, *linears: nn.Module) -> tuple[Tensor, ...]:
    """Several projections of one x (..., D) -> one (..., out) each.

    Whoever projects one x several times calls this, so that how it is done is decided in one place. It calls each: one product with
    concatenated weights costs their copy and a copy of its halves' gradients, and was slower wherever it was measured (a training
    step of 8 layers of width 512 on two cores, tokens a second, each and fused: bf16 1,308 and 1,264, fp32 641 and 612).

    A class of layers with a better way has a method `project_with(x, *others)`, which projects by a layer and by others of its class:
    it is asked where all are of one class. Layers of 8 bits have it: x is then rounded once.
    """
    project_with = getattr(type(linears[0]), "project_with", None)
    if project_with is not None and len({type(linear) for linear in linears}) == 1:
        projected: tuple[Tensor, ...] = project_with(linears[0], x, *linears[1:])
        return projected
    return tuple(linear(x) for linear in linears)


def is_plain(linear: nn.Module) -> bool:
    """Whether calling it is one product with its `weight`: exactly `nn.Linear`, on a plain tensor, without hooks.

    Only then may an attention read a weight instead of calling the layer.
    """
    if type(linear) is not nn.Linear or type(linear.weight) not in (nn.Parameter, Tensor):
        return False
    return not (linear._forward_hooks or linear._forward_pre_hooks)
