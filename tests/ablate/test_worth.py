"""A difference in tokens, against a published law of how loss falls with tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.ablate.worth import mean_curve, worth

TOKENS = 2e9
STEPS = 40


def loss(tokens: float) -> float:
    """Besiroglu et al. 2024 for a model of 100 million parameters."""
    return 1.81686 + 482.006 / 1e8**0.34781 + 2085.434 / tokens**0.36585


CURVE = [(TOKENS * step / STEPS, loss(TOKENS * step / STEPS)) for step in range(1, STEPS + 1)]


def change(fraction: float) -> float:
    """The difference of an arm that ends where the baseline would with so many more of its tokens."""
    return loss(TOKENS * (1 + fraction)) - loss(TOKENS)


@pytest.mark.parametrize("fraction", [0.01, 0.07, 0.25, -0.01, -0.07, -0.25, -0.6, -0.9])
def test_a_difference_is_worth_the_tokens_that_the_law_says(fraction: float) -> None:
    found = worth(CURVE, change(fraction), decayed=False)
    assert found and found.fraction == pytest.approx(fraction, rel=0.2)


def test_words_name_the_worth_its_interval_and_what_is_extrapolated() -> None:
    better = worth(CURVE, change(0.07), (change(0.10), change(0.04)), decayed=False)
    assert better and better.words == "worth 6% (3-9%) of the training tokens, extrapolated"
    assert better.interval == pytest.approx((0.04, 0.10), rel=0.2)
    worse = worth(CURVE, change(-0.12), (change(-0.10), change(-0.14)), decayed=False)
    assert worse and worse.words.startswith("costs 11% (") and worse.words.endswith("%) of the training tokens")


def test_with_a_decayed_learning_rate_the_figure_is_a_lower_bound_and_told_as_one() -> None:
    assert (found := worth(CURVE, change(0.07))) and found.words.startswith("worth at least ")
    assert (found := worth(CURVE, change(-0.07))) and found.words.startswith("costs at least ")


@given(st.floats(0.001, 0.4), st.sampled_from([-1, 1]), st.floats(0, 0.2))
def test_a_curve_that_lies_above_where_shorter_runs_end_claims_no_more_than_is_true(size: float, sign: int, gap: float) -> None:
    """As a decaying learning rate makes it: above on the way, and there at the end."""
    decaying = [(tokens, value + gap * (1 - tokens / TOKENS)) for tokens, value in CURVE]
    found, plain = worth(decaying, change(sign * size)), worth(CURVE, change(sign * size))
    assert found and plain
    assert abs(found.fraction) <= abs(plain.fraction) + 1e-9


def test_a_difference_that_may_be_of_either_sign_is_told_as_both() -> None:
    found = worth(CURVE, change(0.02), (change(0.06), change(-0.03)))
    assert found and found.interval and found.interval[0] < 0 < found.interval[1]
    assert found.words.startswith("worth about ") and "(from a cost of " in found.words and " to a worth of " in found.words


def test_beyond_twice_the_tokens_and_before_the_first_point_nothing_is_claimed() -> None:
    far = worth(CURVE, -1.0)
    assert far and far.fraction == 1 and far.words == "worth more than 100% of the training tokens, extrapolated"
    low = worth(CURVE, 100.0)
    assert low and low.fraction == pytest.approx(1 / STEPS - 1) and low.words == "costs more than 98% of the training tokens"


def test_an_accuracy_is_the_loss_turned_over() -> None:
    turned = [(tokens, -value) for tokens, value in CURVE]
    for fraction in (0.07, -0.3):
        assert worth(turned, -change(fraction), higher_is_better=True) == worth(CURVE, change(fraction))


@given(st.lists(st.floats(-0.2, 2), min_size=2, max_size=10))
def test_the_better_the_arm_the_more_it_is_worth(differences: list[float]) -> None:
    fractions = [found.fraction for difference in sorted(differences) if (found := worth(CURVE, difference))]
    assert fractions == sorted(fractions, reverse=True)


@pytest.mark.parametrize(
    "curve",
    [[], CURVE[-2:], [(0, 9.0), *CURVE[-2:]], [(1e6, 3.0), (2e6, 3.0), (3e6, 3.0)], [(1e6, 3.0), (2e6, 3.1), (3e6, 3.2)], [(1e6, 3.0)] * 3],
)
def test_a_curve_that_cannot_tell_tells_nothing(curve: list[tuple[float, float]]) -> None:
    assert worth(curve, -0.01) is None


def test_the_mean_curve_is_over_the_tokens_that_every_seed_has() -> None:
    assert mean_curve([[(1, 4.0), (2, 3.0), (4, 2.0)], [(2, 5.0), (4, 2.5), (8, 1.0)]]) == [(2, 4.0), (4, 2.25)]
    assert mean_curve([]) == []


def test_no_difference_is_worth_nothing() -> None:
    found = worth(CURVE, 0.0, decayed=False)
    assert found and found.fraction == 0 and "0% of the training tokens" in found.words and math.isfinite(found.fraction)
