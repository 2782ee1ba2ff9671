"""The order of data."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmkit.data.order import permute


@given(n=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_it_is_a_bijection(n: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(n), n, seed=seed, epoch=epoch)
    assert np.array_equal(np.sort(order), np.arange(n))


@given(n=st.integers(1, 2**40), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_place_has_the_same_item_whatever_it_is_asked_with(n: int, seed: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    together = permute(places, n, seed=seed, epoch=3)
    assert (together < n).all() and (together >= 0).all()
    assert [int(permute(places[index : index + 1], n, seed=seed, epoch=3)[0]) for index in range(len(places))] == together.tolist()


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(permute(np.arange(50), 50, seed=seed, epoch=epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_another_process_finds_the_same_order() -> None:
    code = "import numpy as np; from llmkit.data.order import permute; print(permute(np.arange(10), 10, seed=7, epoch=2).tolist())"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert fresh == f"{permute(np.arange(10), 10, seed=7, epoch=2).tolist()}\n"


@pytest.mark.parametrize("n", [3, 4])
def test_every_order_of_a_few_items_is_equally_likely(n: int) -> None:
    counts = dict.fromkeys(permutations(range(n)), 0)
    for epoch in range(4800):
        counts[tuple(permute(np.arange(n), n, seed=0, epoch=epoch).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_an_order_has_no_trend_and_no_memory() -> None:
    order = permute(np.arange(20_000), 20_000, seed=1, epoch=0)
    assert stats.spearmanr(np.arange(20_000), order).pvalue > 1e-4
    assert stats.spearmanr(order[1:], order[:-1]).pvalue > 1e-4
    assert stats.kstest(np.abs(np.diff(order)) / 20_000, lambda x: 2 * x - x * x).pvalue > 1e-4
