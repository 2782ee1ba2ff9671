"""The anytime-valid t-test against the integral that it is the closed form of, and its confidence sequence against the test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from llmkit.ablate.results import Judgement
from llmkit.ablate.sequential import critical_t, e_values, look_after_each, settled

SAMPLES = [[0.3, -0.1, 0.4], [1.0, 1.2, 0.9, 1.1], [-0.2, 0.1, 0.05, -0.3, 0.15, 0.0], [2.0, 2.1, 1.8, 2.4, 1.9, 2.2, 2.05]]
hundredths = st.integers(-1000, 1000).map(lambda number: number / 100)


def t_of(differences: list[float]) -> float:
    return float(stats.ttest_1samp(differences, 0).statistic)


def marginal(differences: list[float], prior: float | None) -> float:
    """Likelihood over the scale with density 1/sigma and the standardised effect with N(0, 1/prior), or without one where None."""
    n, total, squares = len(differences), sum(differences), sum(one**2 for one in differences)

    def likelihood(mean: float, sigma: float) -> float:
        return (2 * math.pi * sigma**2) ** (-n / 2) * math.exp(-(squares - 2 * mean * total + n * mean**2) / (2 * sigma**2))

    def given_scale(log_sigma: float) -> float:
        sigma = math.exp(log_sigma)
        if prior is None:
            return likelihood(0, sigma)

        def given_effect(effect: float) -> float:
            return likelihood(sigma * effect, sigma) * math.sqrt(prior / (2 * math.pi)) * math.exp(-prior * effect**2 / 2)

        centre, reach = total / n / sigma, 12 / math.sqrt(n)
        return float(integrate.quad(given_effect, centre - reach, centre + reach, epsabs=0)[0])

    middle = math.log(np.std(differences))
    return float(integrate.quad(given_scale, middle - 4, middle + 14, epsabs=0, limit=200)[0])


@pytest.mark.parametrize("differences", SAMPLES[:3])
def test_the_e_value_is_the_bayes_factor_with_the_right_haar_prior(differences: list[float]) -> None:
    expected = marginal(differences, 0.25) / marginal(differences, None)
    assert float(e_values(t_of(differences), len(differences))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("differences", SAMPLES)
@pytest.mark.parametrize("precision", [0.25, 1.0, 4.0])
def test_the_e_value_is_that_of_sums_and_squares(differences: list[float], precision: float) -> None:
    """Wang and Ramdas 2024, theorem 4.9: sqrt(g/(n+g)) ((n+g) V / ((n+g) V - S^2))^(n/2), S the sum and V the sum of squares."""
    n, total, squares = len(differences), sum(differences), sum(one**2 for one in differences)
    expected = math.sqrt(precision / (n + precision)) * ((n + precision) * squares / ((n + precision) * squares - total**2)) ** (n / 2)
    assert float(e_values(t_of(differences), n, precision)) == pytest.approx(expected, rel=1e-9)


def test_the_mean_of_the_e_value_is_one_where_there_is_no_difference() -> None:
    """What makes it evidence: integrated over Student's distribution of t, for every number of seeds."""
    for n in (3, 5, 10, 20):
        mean, _ = integrate.quad(lambda t, n=n: float(e_values(t, n)) * stats.t.pdf(t, n - 1), -np.inf, np.inf, limit=500)
        assert mean == pytest.approx(1, abs=1e-6)


@given(st.lists(hundredths, min_size=3, max_size=10), st.floats(0.01, 100), st.sampled_from([-1, 1]))
def test_evidence_does_not_depend_on_the_unit_or_the_sign(differences: list[float], scale: float, sign: int) -> None:
    here = look_after_each(differences, alpha=0.05)
    there = look_after_each([sign * scale * one for one in differences], alpha=0.05)
    assert here and there
    assert there.e_value == pytest.approx(here.e_value, rel=1e-6)


@given(st.integers(4, 40), st.floats(0.001, 0.2))
def test_the_critical_t_is_where_the_evidence_is_one_over_alpha(n: int, alpha: float) -> None:
    critical = critical_t(n, alpha)
    if math.isinf(critical):
        assert float(e_values(math.inf, n)) <= 1 / alpha * (1 + 1e-9)
    else:
        assert float(e_values(critical, n)) == pytest.approx(1 / alpha, rel=1e-6)
        assert float(e_values(critical * 1.01, n)) > 1 / alpha > float(e_values(critical * 0.99, n))


def test_three_seeds_reject_nothing_at_a_twentieth_and_four_can() -> None:
    assert critical_t(3, 0.05) == math.inf
    assert critical_t(4, 0.05) == pytest.approx(7.2, abs=0.1)


@pytest.mark.parametrize("differences", SAMPLES)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_confidence_sequence_is_what_no_look_rejects(differences: list[float], alpha: float) -> None:
    evidence = look_after_each(differences, alpha=alpha)
    assert evidence
    if evidence.interval is None:
        return
    low, high = evidence.interval
    for mu in np.linspace(low - (high - low), high + (high - low), 300):
        moved = look_after_each([one - mu for one in differences], alpha=alpha)
        assert moved
        assert (moved.e_value < 1 / alpha) == (low < mu < high)


@given(st.lists(hundredths, min_size=4, max_size=10), st.floats(0.05, 5))
def test_evidence_against_the_margin_is_enough_exactly_where_the_confidence_sequence_lies_within_it(
    differences: list[float], margin: float
) -> None:
    evidence = look_after_each(differences, alpha=0.05, margin=margin)
    assert evidence and evidence.e_equivalent is not None
    if abs(evidence.e_equivalent * 0.05 - 1) < 1e-6 or len(set(differences)) < len(differences):
        return
    within = evidence.interval is not None and -margin < evidence.interval[0] and evidence.interval[1] < margin
    assert (evidence.e_equivalent >= 1 / 0.05) == within


@given(st.lists(hundredths, min_size=4, max_size=12))
def test_looking_once_more_takes_back_no_evidence_and_widens_no_interval(differences: list[float]) -> None:
    before, after = look_after_each(differences[:-1], alpha=0.05), look_after_each(differences, alpha=0.05)
    assert before and after
    assert after.e_value >= before.e_value
    if before.interval:
        assert after.interval
        assert before.interval[0] <= after.interval[0] <= after.interval[1] <= before.interval[1]


def test_the_first_look_takes_three_seeds() -> None:
    assert look_after_each([0.1, 0.2], alpha=0.05) is None
    assert look_after_each([0.1, 0.2, 0.3], alpha=0.05) is not None


def test_differences_without_noise_are_evidence_that_grows_with_their_number() -> None:
    four = look_after_each([0.1] * 4, alpha=0.05, margin=0.2)
    assert four and four.e_value == pytest.approx((0.25 / 4.25) ** -1.5) and four.interval == (pytest.approx(0.1), pytest.approx(0.1))
    none = look_after_each([0.0] * 4, alpha=0.05)
    assert none and none.e_value < 1
    many = look_after_each([0.1] * 400, alpha=0.05)
    assert many and math.isfinite(many.e_value)


def test_a_study_is_settled_where_every_arm_has_a_verdict_that_more_seeds_do_not_change() -> None:
    baseline = Judgement(arm="mha", seeds=[0])
    ended = [Judgement(arm=verdict, seeds=[0], verdict=verdict) for verdict in ("better", "unstable", "confounded", "equivalent")]  # type: ignore[arg-type]
    assert settled([baseline, *ended])
    assert not settled([baseline, *ended, Judgement(arm="gqa", seeds=[0], verdict="inconclusive")])
