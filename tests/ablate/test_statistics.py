"""The statistics against scipy, statsmodels and the published figures, and what must hold of them whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_paired

from llmkit.ablate.statistics import (
    critical_t,
    equal_p,
    equivalence_p,
    found,
    found_equivalent,
    holm,
    paired_estimate,
    resolvable_effect,
    seeds_needed,
    sign_flip_p,
    spread,
    t_interval,
    t_p,
    unpaired_seeds_needed,
    welch_estimate,
)

NEAR = {"rel": 1e-9, "abs": 1e-12}
SAMPLES = [(seed, count) for seed in range(4) for count in (2, 3, 5, 12, 20)]
hundredths = st.integers(-1000, 1000).map(lambda number: number / 100)


def sample(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """An arm and a baseline, as losses are: near each other, and alike by seed."""
    rng = np.random.default_rng(seed)
    baseline = 3.28 + 0.002 * rng.standard_normal(count)
    return baseline + 0.001 * rng.standard_t(3, count) - 0.0007, baseline


@pytest.mark.parametrize(("seed", "count"), SAMPLES)
def test_the_paired_t_test_is_scipys(seed: int, count: int) -> None:
    arm, baseline = sample(seed, count)
    theirs = stats.ttest_rel(arm, baseline)
    interval = theirs.confidence_interval(0.95)
    estimate = paired_estimate(arm - baseline)
    assert t_p(estimate) == pytest.approx(theirs.pvalue, **NEAR)
    assert t_interval(estimate, 0.05) == pytest.approx((interval.low, interval.high), **NEAR)
    assert estimate.deviation == pytest.approx(np.std(arm - baseline, ddof=1), **NEAR)
    assert estimate.seeds == pytest.approx(count)


@pytest.mark.parametrize(("seed", "count"), SAMPLES)
def test_welchs_test_is_scipys(seed: int, count: int) -> None:
    arm, baseline = sample(seed, count)[0], sample(seed + 100, count + 3)[1]
    theirs = stats.ttest_ind(arm, baseline, equal_var=False)
    interval = theirs.confidence_interval(0.99)
    estimate = welch_estimate(arm, baseline)
    assert estimate.freedom == pytest.approx(theirs.df, **NEAR)
    assert t_p(estimate) == pytest.approx(theirs.pvalue, **NEAR)
    assert t_interval(estimate, 0.01) == pytest.approx((interval.low, interval.high), **NEAR)


@pytest.mark.parametrize(("seed", "count"), SAMPLES)
def test_the_two_one_sided_tests_are_statsmodels(seed: int, count: int) -> None:
    arm, baseline = sample(seed, count)
    for margin in (0.0005, 0.001, 0.005):
        theirs, *_ = ttost_paired(arm, baseline, -margin, margin)
        assert equivalence_p(paired_estimate(arm - baseline), margin) == pytest.approx(theirs, **NEAR)
        unpaired, *_ = CompareMeans(DescrStatsW(arm), DescrStatsW(baseline)).ttost_ind(-margin, margin, usevar="unequal")
        assert equivalence_p(welch_estimate(arm, baseline), margin) == pytest.approx(unpaired, **NEAR)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_the_sign_flip_test_is_scipys_exact_permutation_test(count: int) -> None:
    differences = np.subtract(*sample(7, count))
    theirs = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(list(differences)) == pytest.approx(theirs.pvalue, **NEAR)


def test_the_sign_flip_test_is_wilcoxons_on_ranks() -> None:
    ranks = [1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    assert sign_flip_p(ranks) == pytest.approx(stats.wilcoxon(ranks, method="exact").pvalue, **NEAR)


def test_the_sign_flip_test_ends_where_signs_cannot_be_gone_through() -> None:
    assert sign_flip_p([0.1] * 30) == 2.0**-29
    assert sign_flip_p([0.1] * 31) is None
    assert sign_flip_p([]) is None
    assert sign_flip_p([0.1]) == 1


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_statsmodels(ps: list[float]) -> None:
    theirs = multipletests(ps, method="holm")[1] if ps else []
    assert holm(ps) == pytest.approx(list(theirs), **NEAR)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 11))
def test_holm_keeps_order_exceeds_no_bonferroni_and_rises_with_another_arm(ps: list[float], another: float, index: int) -> None:
    adjusted = holm(ps)
    pairs = sorted(zip(ps, adjusted, strict=True))
    assert [new for _, new in pairs] == sorted(adjusted)
    assert all(old <= new <= min(1, old * len(ps)) for old, new in pairs)
    assert all(more >= less for more, less in zip(holm([*ps, another]), adjusted, strict=False))
    lower = [p / 2 if at == index else p for at, p in enumerate(ps)]
    assert all(new <= old for new, old in zip(holm(lower), adjusted, strict=True))


@pytest.mark.parametrize("count", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_power_is_statsmodels(count: int, alpha: float) -> None:
    for effect in (0.0, 0.3, 1.0):
        theirs = TTestPower().power(effect, count, alpha)
        assert found(effect, count, count - 1, critical_t(count - 1, alpha)) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 30])
def test_the_smallest_resolvable_effect_is_found_with_the_power_asked_for(count: int) -> None:
    effect = resolvable_effect(count, count - 1, critical_t(count - 1, 0.01), 0.8)
    assert effect is not None
    assert TTestPower().power(effect, count, 0.01) == pytest.approx(0.8, abs=1e-7)


@pytest.mark.parametrize(("effect", "alpha"), [(0.2, 0.05), (0.5, 0.05), (1.0, 0.05), (1.0, 0.01), (3.0, 0.005)])
def test_the_seeds_that_a_difference_takes_are_statsmodels_rounded_up(effect: float, alpha: float) -> None:
    needed = seeds_needed(lambda seeds: found(effect, seeds, seeds - 1, critical_t(seeds - 1, alpha)) >= 0.8, 2)
    assert needed == math.ceil(float(TTestPower().solve_power(effect, alpha=alpha, power=0.8)) - 1e-9)


def test_equivalence_is_found_as_often_as_in_simulated_studies() -> None:
    rng = np.random.default_rng(3)
    count, margin, studies = 8, 1.5, 20_000
    for effect in (0.0, 0.4):
        differences = effect + rng.standard_normal((studies, count))
        errors = differences.std(axis=-1, ddof=1) / math.sqrt(count)
        rate = np.mean(stats.t.cdf((np.abs(differences.mean(axis=-1)) - margin) / errors, count - 1) <= 0.05)
        theory = found_equivalent(effect, margin, count, count - 1, critical_t(count - 1, 0.1))
        assert abs(rate - theory) < 4 * math.sqrt(theory * (1 - theory) / studies)


def test_more_seeds_than_anyone_runs_are_none() -> None:
    assert seeds_needed(lambda seeds: seeds >= 10_000, 5) == 10_000
    assert seeds_needed(lambda seeds: seeds >= 10_001, 5) is None


@given(st.integers(2, 300), st.integers(0, 500))
def test_the_seeds_needed_are_the_first_that_are_enough(start: int, beyond: int) -> None:
    assert seeds_needed(lambda seeds: seeds >= start + beyond, start) == start + beyond


@pytest.mark.parametrize(("effect", "seeds"), [(0.001, 57), (0.002, 15), (0.005, 3), (0.01, 1)])
def test_the_published_table_of_seeds_that_an_arm_needs(effect: float, seeds: int) -> None:
    assert unpaired_seeds_needed(effect, 0.0019) == seeds


def test_the_published_record_of_80_runs() -> None:
    """80 final losses, mean 3.2791425, standard deviation 0.00191: the 95% interval of their mean, by Student's table (t = 1.990450)."""
    rng = np.random.default_rng(0)
    losses = rng.standard_normal(80)
    losses = 3.2791425 + 0.00191 * (losses - losses.mean()) / losses.std(ddof=1)
    estimate = paired_estimate(losses)
    assert (estimate.mean, estimate.deviation) == pytest.approx((3.2791425, 0.00191), rel=1e-9)
    assert t_interval(estimate, 0.05) == pytest.approx((3.2791425 - 1.990450 * 0.00191 / 80**0.5, 3.2791425 + 1.990450 * 0.00191 / 80**0.5))


def test_equal_differences_have_no_spread_however_their_mean_is_rounded() -> None:
    assert np.std([0.1] * 3, ddof=1) > 0, "numpy rounds, which is why equal values are asked for first"
    assert spread(np.array([0.1] * 3)) == 0
    estimate = paired_estimate([-0.25] * 4)
    assert t_interval(estimate, 0.05) == (-0.25, -0.25)
    assert (equivalence_p(estimate, 0.3), equivalence_p(estimate, 0.2)) == (0, 1)
    assert t_p(paired_estimate([0.0, 0.0])) == 1
    assert spread(np.array([0.9 - 0.8, 0.4 - 0.3])) == 0 != 0.9 - 0.8 - (0.4 - 0.3), "what subtraction rounds off is no noise"


@pytest.mark.parametrize("count", [2, 3])
def test_equal_differences_are_no_rarer_than_their_p_and_for_some_coarse_metric_nearly_as_frequent(count: int) -> None:
    """All outcomes of a metric with so many values, counted one by one, paired and unpaired."""
    rng = np.random.default_rng(count)
    for weights in ([0.5, 0.5], [0.25, 0.5, 0.25], *rng.dirichlet(np.ones(3), 20)):
        chance = dict(enumerate(weights))
        apart = {c: sum(p * chance.get(value + c, 0.0) for value, p in chance.items()) for c in range(-3, 4) if c}
        paired = sum(p**count for p in apart.values())
        unpaired = sum((p * q) ** count for a, p in chance.items() for b, q in chance.items() if a != b)
        assert max(paired, unpaired) <= t_p(paired_estimate([0.5] * count)) == t_p(welch_estimate([1.0] * count, [2.0] * count))
    assert sum(p**count for p in (0.25, 0.25)) == pytest.approx(equal_p(count) / 2)


@settings(deadline=None)
@given(st.lists(hundredths, min_size=2, max_size=8), st.floats(0.01, 100))
def test_another_sign_or_unit_changes_no_p_and_scales_the_interval(differences: list[float], scale: float) -> None:
    estimate = paired_estimate(differences)
    turned = paired_estimate([-scale * one for one in differences])
    assert t_p(turned) == pytest.approx(t_p(estimate), rel=1e-6, abs=1e-12)
    assert sign_flip_p([-scale * one for one in differences]) == pytest.approx(sign_flip_p(differences))
    low, high = t_interval(estimate, 0.05)
    assert t_interval(turned, 0.05) == pytest.approx((-scale * high, -scale * low), rel=1e-6, abs=1e-9 * scale)
    assert equivalence_p(turned, scale) == pytest.approx(equivalence_p(estimate, 1.0), rel=1e-6, abs=1e-12)


@given(st.floats(0, 6), st.integers(2, 40))
def test_power_rises_with_the_effect_and_with_seeds(effect: float, seeds: int) -> None:
    power = found(effect, seeds, seeds - 1, critical_t(seeds - 1, 0.05))
    assert found(effect + 0.1, seeds, seeds - 1, critical_t(seeds - 1, 0.05)) >= power - 1e-12
    assert found(effect, seeds + 1, seeds, critical_t(seeds, 0.05)) >= power - 1e-12


@pytest.mark.parametrize("shift", [30, 100, 1000, 1e6])
def test_effects_far_beyond_the_noise_are_found_for_certain(shift: float) -> None:
    for seeds in (3, 100, 10_000):
        assert found(shift / math.sqrt(seeds), seeds, seeds - 1, 4.0) == pytest.approx(1)
