"""The frame of a figure: round ticks, labels apart, lines that are told apart."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmkit.typeset.frame import Scale, dash, ink, spaced, tick_labels, typical

values = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(values, values)
def test_ticks_are_round_and_on_the_scale(one: float, other: float) -> None:
    scale = Scale.around([one, other], 0, 300)
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 12
    assert all(scale.low - 1e-9 * abs(scale.low) <= tick <= scale.high + 1e-9 * abs(scale.high) for tick in ticks)
    step = ticks[1] - ticks[0]
    assert f"{step:.0e}"[0] in "125"
    assert all(math.isclose(b - a, step, rel_tol=1e-6, abs_tol=1e-9 * max(abs(a), abs(b))) for a, b in pairwise(ticks))
    assert len(set(tick_labels(ticks))) == len(ticks)


@given(st.lists(st.floats(20, 260), min_size=1, max_size=15))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    found = spaced(places, 20, 260, gap=13)
    order = sorted(range(len(places)), key=lambda index: places[index])
    assert all(found[b] - found[a] >= 13 - 1e-9 for a, b in pairwise(order))
    assert all(20 - 1e-9 <= place <= 260 + 1e-9 for place in found)


def test_thirty_five_arms_are_told_apart_by_colour_and_dash() -> None:
    assert len({(ink(place), dash(place)) for place in range(1, 36)}) == 35
    assert len({dash(place) for place in range(1, 8)}) == 7, "in print, dashes alone must do"


def test_a_scale_leaves_out_only_what_is_many_times_the_median() -> None:
    assert typical([1.0, 1.1, 0.9, 50.0]) == 1.1
    assert typical([1.0, 2.0, 3.0]) == 3.0
    assert typical([0.0]) == 0.0
