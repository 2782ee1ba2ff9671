"""`attend`, the mask and the cache against a naive reference that loops over pairs of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from llmkit.core.interfaces.attention import (
    Caches,
    Context,
    KVCache,
    TokenCache,
    attend,
    attend_over,
    is_plain,
    project,
    visible,
)
from llmkit.core.interfaces.position import PositionHandle, Tables

HEADS, GROUPS, WIDTH = 4, 2, 8


def falling(q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
    return (head + 1) * 0.1 * (k_pos - q_pos)


def unturned(x: Tensor, tables: Tables) -> Tensor:
    return x


FALLING = PositionHandle("falling", 0, unturned, falling)


def context(positions: Tensor, segments: Tensor | None = None, *, plain: bool = False) -> Context:
    return Context(positions, {"falling": {}}, segments, {}, plain)


def drawn(rows: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, heads, length, WIDTH, generator=generator) * 2 for heads in (HEADS, GROUPS, GROUPS))  # type: ignore[return-value]


def naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    *,
    window: int | None = None,
    segments: Tensor | None = None,
    bias: bool = False,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    scale: float = WIDTH**-0.5,
) -> Tensor:
    """One query at a time, over the keys that it may see; zeros for padding."""
    out = torch.zeros(*q.shape[:3], v.shape[3])
    for row in range(q.shape[0]):
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            for i, at in enumerate(positions[row].tolist()):
                if at < 0:
                    continue
                seen = [
                    j
                    for j, other in enumerate(positions[row].tolist())
                    if 0 <= other <= at
                    and (window is None or at - other < window)
                    and (segments is None or segments[row, i] == segments[row, j])
                ]
                scores = k[row, group, seen] @ q[row, head, i] * scale
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                if bias:
                    scores = scores + (head + 1) * 0.1 * (positions[row, seen] - at)
                if sinks is not None:
                    scores = torch.cat([scores, sinks[head : head + 1]])
                out[row, head, i] = scores.softmax(0)[: len(seen)] @ v[row, group, seen]
    return out


def assert_same(found: Tensor, expected: Tensor, positions: Tensor) -> None:
    assert found.isfinite().all()
    known = (positions >= 0)[:, None, :, None].expand_as(expected)
    torch.testing.assert_close(found[known], expected[known], atol=2e-5, rtol=2e-5)


def padded(lengths: Sequence[int], total: int) -> Tensor:
    """Left padding: rows of these lengths at the right end."""
    return torch.tensor([[-1] * (total - length) + list(range(length)) for length in lengths])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    window=st.none() | st.integers(1, 11),
    bias=st.booleans(),
    softcap=st.none() | st.just(3.0),
    sinks=st.booleans(),
    scale=st.just(WIDTH**-0.5) | st.just(0.7),
)
def test_attend_is_the_naive_attention_for_padded_rows(
    lengths: list[int], window: int | None, bias: bool, softcap: float | None, sinks: bool, scale: float
) -> None:
    positions = padded(lengths, max(lengths) + 1)
    q, k, v = drawn(*positions.shape)
    sink = torch.linspace(-1, 1, HEADS) if sinks else None
    position = FALLING if bias else None
    found = attend(q, k, v, context(positions), position=position, window=window, scale=scale, softcap=softcap, sinks=sink)
    assert_same(found, naive(q, k, v, positions, window=window, bias=bias, softcap=softcap, sinks=sink, scale=scale), positions)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), window=st.none() | st.integers(1, 6))
def test_packed_documents_attend_as_if_each_stood_alone(lengths: list[int], window: int | None) -> None:
    positions = torch.tensor([[at for length in lengths for at in range(length)]])
    segments = torch.tensor([[index for index, length in enumerate(lengths) for _ in range(length)]])
    q, k, v = drawn(*positions.shape)
    found = attend(q, k, v, context(positions, segments), window=window)
    assert_same(found, naive(q, k, v, positions, window=window, segments=segments), positions)
    begin = 0
    for length in lengths:
        part = slice(begin, begin + length)
        alone = attend(q[:, :, part], k[:, :, part], v[:, :, part], context(positions[:, part]), window=window)
        torch.testing.assert_close(found[:, :, part], alone, atol=2e-5, rtol=2e-5)
        begin += length


@settings(max_examples=60, deadline=None)
@given(data=st.data(), window=st.none() | st.integers(1, 8), bias=st.booleans())
def test_cached_attention_is_the_naive_one_however_it_is_cut(data: st.DataObject, window: int | None, bias: bool) -> None:
    lengths = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=3))
    positions = padded(lengths, max(lengths))
    cuts = data.draw(st.lists(st.integers(1, max(lengths)), max_size=5))
    q, k, v = drawn(*positions.shape)
    cache = KVCache(len(lengths), GROUPS, WIDTH, max(lengths), like=q, window=window)
    pieces = [sorted({0, *cuts, max(lengths)})[i : i + 2] for i in range(len({0, *cuts, max(lengths)}) - 1)]
    found = [
        attend(
            q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], context(positions[:, a:b]), cache, position=FALLING if bias else None, window=window
        )
        for a, b in pieces
    ]
    assert_same(torch.cat(found, dim=2), naive(q, k, v, positions, window=window, bias=bias), positions)


SINKS = torch.tensor([-2.0, 0.0, 1.0, 30.0])


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("width", [5, WIDTH, 11])
@pytest.mark.parametrize("sinks", [None, SINKS])
@pytest.mark.parametrize("bias", [None, FALLING])
def test_values_of_any_width_and_sinks_are_the_naive_attention_on_every_path(
    plain: bool, width: int, sinks: Tensor | None, bias: PositionHandle | None
) -> None:
    positions = torch.arange(7).expand(2, 7)
    q, k, _ = drawn(2, 7)
    v = torch.randn(2, GROUPS, 7, width)
    expected = naive(q, k, v, positions, bias=bias is not None, sinks=sinks)
    assert_same(attend_over(q, k, v, context(positions, plain=plain), bias=bias, sinks=sinks), expected, positions)
    last = attend_over(q[:, :, 6:], k, v, context(positions[:, 6:]), positions, bias=bias, sinks=sinks)
    assert_same(last, expected[:, :, 6:], positions[:, 6:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_way_beside_a_sink_has_the_gradients_of_the_one_written_out(dtype: torch.dtype) -> None:
    positions = torch.arange(9).expand(2, 9)
    gradients = []
    for softcap in (None, 1e6):  # a cap so high is none, and is written out
        tensors = [x.to(dtype).requires_grad_() for x in (*drawn(2, 9), SINKS.clone())]
        q, k, v, sinks = tensors
        attend(q, k, v, context(positions, plain=True), softcap=softcap, sinks=sinks).square().sum().backward()
        gradients.append([x.grad for x in tensors])
    tolerance = 1e-3 if dtype is torch.float32 else 0.2
    for fast, written in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, written, atol=tolerance, rtol=tolerance)


def test_products_are_counted_as_the_mathematics_has_them_not_as_a_kernel_wants_them() -> None:
    positions = torch.arange(16, device="meta").expand(1, 16)
    q, k, v = (torch.empty(1, HEADS, 16, width, device="meta") for width in (WIDTH, WIDTH, 5))
    for sinks in (None, torch.empty(HEADS, device="meta")):
        counter: FlopCounterMode = FlopCounterMode(display=False)
        with counter:
            attend_over(q, k, v, context(positions, plain=True), sinks=sinks)
        assert counter.get_total_flops() == 2 * HEADS * 16 * 16 * (WIDTH + 5)


@pytest.mark.parametrize("window", [None, 4])
def test_the_plain_path_is_the_masked_one(window: int | None) -> None:
    positions = torch.arange(9).expand(2, 9)
    q, k, v = drawn(2, 9)
    plain = attend(q, k, v, context(positions, plain=True), window=window)
    torch.testing.assert_close(plain, attend(q, k, v, context(positions), window=window), atol=2e-5, rtol=2e-5)


def test_padding_is_finite_forwards_and_backwards() -> None:
    positions = padded([0, 3], 4)
    q, k, v = (x.requires_grad_() for x in drawn(2, 4))
    for softcap in (None, 2.0):
        attend(q, k, v, context(positions), softcap=softcap, position=FALLING).sum().backward()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))


def test_a_nan_that_was_written_as_padding_reaches_nobody() -> None:
    q, k, v = drawn(1, 4)
    k[:, :, 0], v[:, :, 0] = torch.nan, torch.nan
    cache = KVCache(1, GROUPS, WIDTH, 8, like=q)
    cache.update(k, v, torch.tensor([[-1, 0, 1, 2]]))
    fresh = drawn(1, 1, seed=3)
    assert attend(*fresh, context(torch.tensor([[3]])), cache).isfinite().all()


def test_a_ring_holds_no_more_than_its_window() -> None:
    like = torch.zeros((), dtype=torch.bfloat16)
    ring = KVCache(2, GROUPS, WIDTH, 100, like=like, window=16)
    assert ring.nbytes == 2 * 2 * GROUPS * WIDTH * 16 * 2
    assert KVCache(2, GROUPS, WIDTH, 100, like=like).nbytes == 2 * 2 * GROUPS * WIDTH * 100 * 2
    assert KVCache(2, GROUPS, WIDTH, 10, like=like, window=16).nbytes == 2 * 2 * GROUPS * WIDTH * 10 * 2


@pytest.mark.parametrize("window", [None, 6])
def test_truncated_caches_continue_as_if_the_rest_had_never_been_read(window: int | None) -> None:
    positions = torch.arange(6)[None]
    q, k, v = drawn(1, 6)
    cache = KVCache(1, GROUPS, WIDTH, 16, like=q, window=window)
    cache.update(k[:, :, :3], v[:, :, :3], positions[:, :3])
    junk = drawn(1, 2, seed=9)
    cache.update(*junk[1:], positions[:, 3:5])
    cache.truncate(3)
    last = attend(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], context(positions[:, 3:]), cache, window=window)
    assert_same(last, naive(q, k, v, positions, window=window)[:, :, 3:], positions[:, 3:])


def test_a_wrapped_ring_refuses_to_be_truncated_and_no_layer_is_changed() -> None:
    q, k, v = drawn(1, 6)
    full, ring = KVCache(1, GROUPS, WIDTH, 8, like=q), KVCache(1, GROUPS, WIDTH, 8, like=q, window=3)
    for cache in (full, ring):
        cache.update(k, v, torch.arange(6)[None])
    caches = Caches(torch.tensor([6]), [full, ring])
    with pytest.raises(ValueError, match="layer 1: a ring of 3 positions has wrapped"):
        caches.truncate(4)
    assert caches.seen.tolist() == [6]
    held = full.update(*drawn(1, 1)[1:], torch.tensor([[6]]))[2]
    assert held[0, :7].tolist() == list(range(7))


def test_a_wrapped_ring_lets_itself_be_truncated_to_what_it_has_anyway() -> None:
    _, k, v = drawn(1, 6)
    ring = KVCache(1, GROUPS, WIDTH, 8, like=k, window=3)
    ring.update(k, v, torch.arange(6)[None])
    assert ring.refusal(6) is None
    ring.truncate(6)


def test_selected_rows_go_on_as_those_rows() -> None:
    positions = torch.arange(4).expand(3, 4)
    q, k, v = drawn(3, 4)
    cache = KVCache(3, GROUPS, WIDTH, 8, like=q)
    cache.update(k[:, :, :3], v[:, :, :3], positions[:, :3])
    caches = Caches(torch.tensor([3, 3, 3]), [cache]).select(torch.tensor([2, 0]))
    rows = torch.tensor([2, 0])
    assert caches.seen.tolist() == [3, 3]
    found = attend(q[rows, :, 3:], k[rows, :, 3:], v[rows, :, 3:], context(positions[rows, 3:]), cache)
    torch.testing.assert_close(found, naive(q, k, v, positions)[rows, :, 3:], atol=2e-5, rtol=2e-5)


def test_a_cache_in_fp32_serves_queries_in_bf16() -> None:
    q, k, v = (x.bfloat16() for x in drawn(1, 5))
    positions = torch.arange(5)[None]
    cache = KVCache(1, GROUPS, WIDTH, 5, like=torch.zeros(()))
    found = attend(q, k, v, context(positions), cache)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, attend(q, k, v, context(positions)), atol=2e-2, rtol=2e-2)


def test_attend_refuses_a_cache_of_another_kind() -> None:
    with pytest.raises(TypeError, match="KVCache"):
        attend(*drawn(1, 1), context(torch.zeros(1, 1, dtype=torch.int64)), object())  # type: ignore[arg-type]


def test_the_mask_is_the_one_line() -> None:
    mask = visible(torch.tensor([[2, 5]]), torch.tensor([[-1, 0, 2, 3, 5, 6]]), 3)
    assert mask.tolist() == [[[[False, True, True, False, False, False], [False, False, False, True, True, False]]]]


def test_a_cache_may_remember_one_tensor_a_token_or_several() -> None:
    like = torch.zeros((), dtype=torch.bfloat16)
    for widths in ((5,), (5, 3, 2)):
        cache = TokenCache(2, 3, widths, 8, like=like)
        assert cache.nbytes == 2 * 3 * 8 * sum(widths) * 2
        new = [torch.randn(2, 3, 4, width) for width in widths]
        held, positions = cache.remember(new, torch.arange(4).expand(2, 4))
        assert positions[:, :5].tolist() == [[0, 1, 2, 3, -1]] * 2
        for one, chunk in zip(held, new, strict=True):
            assert torch.equal(one[:, :, :4], chunk.bfloat16()) and not one[:, :, 4:].any()


def test_only_what_is_exactly_a_linear_layer_may_be_read_instead_of_called() -> None:
    class Adapted(nn.Linear):
        pass

    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda module, arguments, y: y)
    assert is_plain(nn.Linear(2, 2)) and is_plain(nn.Linear(2, 2, device="meta"))
    assert not is_plain(Adapted(2, 2)) and not is_plain(hooked) and not is_plain(nn.Identity())
    assert not is_plain(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))


def test_projections_of_one_x_are_each_linears_own() -> None:
    linears = [nn.Linear(6, width, bias=bias) for width, bias in ((4, True), (2, False), (3, True))]
    x = torch.randn(2, 5, 6)
    for found, linear in zip(project(x, *linears), linears, strict=True):
        torch.testing.assert_close(found, linear(x))
