"""The order of data from several sources: proportions in every block, and every source epoch by epoch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from llmkit.data.mixing import MixedOrder, Span, block_counts

weights = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


def sources(counts: list[int]) -> dict[str, Span]:
    """Sources of so many items, with a gap of one item between them, as where two meet in a sequence."""
    first = np.cumsum([0, *(count + 1 for count in counts)]).tolist()
    return {f"source {index}": Span(first[index], count) for index, count in enumerate(counts)}


def owner_of(item: int, spans: dict[str, Span]) -> str:
    (name,) = (name for name, span in spans.items() if span.first <= item < span.first + span.items)
    return name


@given(data=st.data(), parts=weights, seed=st.integers(0, 2**63))
@settings(max_examples=20, deadline=None)
def test_every_block_has_the_same_whole_number_of_places_of_each_source(data: st.DataObject, parts: list[float], seed: int) -> None:
    spans = sources(data.draw(st.lists(st.integers(1, 300), min_size=len(parts), max_size=len(parts))))
    order = MixedOrder(spans, dict(zip(spans, parts, strict=True)), seed=seed)
    length = sum(order.counts.values())
    block = data.draw(st.integers(0, 1000))
    found = order.at(np.arange(block * length, (block + 1) * length))
    assert Counter(owner_of(int(item), spans) for item in found) == order.counts
    for part, count in zip(parts, order.counts.values(), strict=True):
        assert count / length == pytest.approx(part / sum(parts), rel=0.035)


@given(counts=st.lists(st.integers(1, 700), min_size=1, max_size=4), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_source_is_read_to_its_end_before_it_begins_again(counts: list[int], seed: int, data: st.DataObject) -> None:
    spans = sources(counts)
    parts = data.draw(st.lists(st.floats(0.1, 1), min_size=len(counts), max_size=len(counts)))
    found = MixedOrder(spans, dict(zip(spans, parts, strict=True)), seed=seed).at(np.arange(2000))
    for span in spans.values():
        mine = found[(found >= span.first) & (found < span.first + span.items)]
        for epoch in range(-(-len(mine) // span.items)):
            seen = mine[epoch * span.items : (epoch + 1) * span.items]
            assert len(set(seen.tolist())) == len(seen)


@given(parts=weights, seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_place_has_the_same_item_whatever_it_is_asked_with(parts: list[float], seed: int, data: st.DataObject) -> None:
    spans = sources([50 + 10 * index for index in range(len(parts))])
    proportions = dict(zip(spans, parts, strict=True))
    places = np.array(sorted(data.draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=8))))
    together = MixedOrder(spans, proportions, seed=seed).at(places)
    alone = [int(MixedOrder(spans, proportions, seed=seed).at(places[index : index + 1])[0]) for index in range(len(places))]
    assert together.tolist() == alone


def test_a_source_beside_it_does_not_change_the_order_within_a_source() -> None:
    spans = sources([90, 40])
    one = MixedOrder(spans, {"source 0": 1.0}, seed=5).at(np.arange(90))
    both = MixedOrder(spans, {"source 0": 0.5, "source 1": 0.5}, seed=5).at(np.arange(600))
    assert [item for item in both.tolist() if item < 90][:90] == one.tolist()


def test_a_source_without_a_part_is_never_read() -> None:
    spans = sources([10, 10, 10])
    found = MixedOrder(spans, {"source 0": 0.5, "source 1": 0.0, "source 2": 0.5}, seed=0).at(np.arange(2000))
    assert {owner_of(item, spans) for item in found.tolist()} == {"source 0", "source 2"}


def test_another_seed_has_another_order_and_blocks_have_orders_of_their_own() -> None:
    spans = sources([500, 500])
    even = dict.fromkeys(spans, 0.5)
    order = MixedOrder(spans, even, seed=1)
    length = sum(order.counts.values())
    blocks = [(order.at(np.arange(length) + block * length) < 500).tolist() for block in range(3)]
    assert blocks[0] != blocks[1] != blocks[2] != blocks[0]
    assert order.at(np.arange(50)).tolist() != MixedOrder(spans, even, seed=2).at(np.arange(50)).tolist()


def test_another_process_finds_the_same_order() -> None:
    code = (
        "import numpy as np; from llmkit.data.mixing import MixedOrder, Span\n"
        "print(MixedOrder({'a': Span(0, 30), 'b': Span(31, 9)}, {'a': .7, 'b': .3}, seed=7).at(np.arange(40)).tolist())"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = MixedOrder({"a": Span(0, 30), "b": Span(31, 9)}, {"a": 0.7, "b": 0.3}, seed=7).at(np.arange(40))
    assert fresh == f"{here.tolist()}\n"


def test_the_places_of_a_source_within_a_block_have_no_trend() -> None:
    spans = sources([5000, 5000])
    found = MixedOrder(spans, dict.fromkeys(spans, 0.5), seed=0).at(np.arange(20_000)) < 5000
    # As many as chance has, of neighbours that are of one source: blocks are so long that it makes no difference.
    alike = int((found[1:] == found[:-1]).sum())
    assert stats.binomtest(alike, len(found) - 1, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("parts", [[2, 1], [5, 3, 2], [1, 1, 1], [1], [70, 20, 7, 3], [1 / 7, 2 / 7, 4 / 7]], ids=str)
def test_proportions_with_a_common_denominator_are_exact(parts: list[float]) -> None:
    counts = block_counts(parts)
    assert [count / sum(counts) for count in counts] == pytest.approx([part / sum(parts) for part in parts], rel=1e-12)


@given(parts=weights)
@settings(max_examples=60, deadline=None)
def test_no_rounding_by_another_rule_with_this_block_is_nearer(parts: list[float]) -> None:
    counts, total = block_counts(parts), sum(parts)
    length = sum(counts)
    assume(min(parts) / total * length > 1)
    assert all(abs(count - part / total * length) < 1 for count, part in zip(counts, parts, strict=True))


def test_a_rare_source_is_in_every_block() -> None:
    counts = block_counts([1.0, 1e-3])
    assert counts[1] / sum(counts) == pytest.approx(1e-3 / 1.001, rel=1e-3)
    assert block_counts([1.0, 1e-9])[1] == block_counts([1.0, 1e-320])[1] == 1


@given(lost=st.floats(-1e-15, 1e-15), parts=weights)
@settings(max_examples=25, deadline=None)
def test_the_last_bit_of_a_proportion_does_not_change_the_block(lost: float, parts: list[float]) -> None:
    assert block_counts([2.0 + lost, 1.0]) == block_counts([2.0, 1.0])
    assert block_counts([part * 3 for part in parts]) == block_counts(parts)
