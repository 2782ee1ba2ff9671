"""What the verdicts are worth: thousands of studies whose truth is known, judged as real ones are.

No run is trained; values are drawn. What is shown holds for values that are drawn so: seeds independent of each other, arms sharing a
seed's part of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from llmkit.ablate.sequential import FIRST_LOOK, critical_t, e_values
from llmkit.ablate.verdict import judge

ALPHA = 0.05
STUDIES = 2_000
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Values = dict[str, dict[int, float]]


def heavy_tails(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of a study: Student's with 3 degrees of freedom, lognormal, or one seed in ten far off."""
    match rng.integers(3):
        case 0:
            return rng.standard_t(3, shape)
        case 1:
            return rng.lognormal(0, 1, shape)
        case _:
            return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 10, 1)


NOISES: dict[str, Noise] = {"normal": lambda rng, shape: rng.standard_normal(shape), "heavy tails": heavy_tails}


def studies(noise: Noise, count: int, seed: int, shift: float = 0.0, arms: int | None = None, seeds: int | None = None) -> Iterator[Values]:
    """Studies of 2 to 10 arms and 3 to 20 seeds, unless given; all arms but the first lie higher by `shift`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = (arms or int(rng.integers(2, 11)), seeds or int(rng.integers(3, 21)))
        values = 3.28 + 0.002 * rng.standard_normal(shape[1]) + 0.001 * noise(rng, shape)
        values[1:] += 0.001 * shift
        yield {f"arm {index}": dict(enumerate(row.tolist())) for index, row in enumerate(values)}


def rate(found: Iterator[Values], *, sequential: bool) -> float:
    """The part of the studies with any `better` or `worse`."""
    hits = [
        any(one.verdict in ("better", "worse") for one in judge(values, "arm 0", alpha=ALPHA, sequential=sequential)) for values in found
    ]
    return float(np.mean(hits))


def no_more_than(observed: float, allowed: float, count: int) -> bool:
    """Whether so many errors are likely enough (1 in 1,000) where `allowed` is the true rate."""
    return bool(stats.binom.sf(round(observed * count) - 1, count, allowed) > 0.001)


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [False, True], ids=["once at the end", "after every seed"])
@pytest.mark.parametrize("noise", NOISES)
def test_no_more_studies_than_alpha_find_a_difference_where_there_is_none(noise: str, sequential: bool) -> None:
    """With `sequential`, an arm that was better or worse at any look still is at the last: one call judges all looks."""
    assert no_more_than(rate(studies(NOISES[noise], STUDIES, seed=1), sequential=sequential), ALPHA, STUDIES)


def test_a_test_that_ignores_the_peeking_errs_in_23_of_100_studies_and_this_one_in_2_6() -> None:
    """The published figures; that the simulation can see a test fail. 3 to 20 seeds for the one, 30 looks for the other."""
    count = 20_000
    differences = np.random.default_rng(2).standard_normal((count, 32))
    peeking, evidence = np.zeros(count, bool), np.zeros(count)
    for n in range(FIRST_LOOK, 33):
        test = stats.ttest_1samp(differences[:, :n], 0, axis=1)
        evidence = np.maximum(evidence, e_values(test.statistic, n))
        if n <= 20:
            peeking |= test.pvalue <= ALPHA
    assert np.mean(peeking) == pytest.approx(0.23, abs=0.01)
    assert np.mean(evidence >= 1 / ALPHA) == pytest.approx(0.026, abs=0.004)


@pytest.mark.parametrize(("effect", "median"), [(1.0, 12), (2.0, 6), (3.0, 5)])
def test_an_effect_is_settled_after_as_many_seeds_as_published(effect: float, median: int) -> None:
    """Effects of 1, 2 and 3 paired standard deviations: 12, 6 and 5 seeds in the median."""
    differences = effect + np.random.default_rng(3).standard_normal((4_000, 40))
    first = np.full(len(differences), 41)
    for n in range(40, FIRST_LOOK - 1, -1):
        t = stats.ttest_1samp(differences[:, :n], 0, axis=1).statistic
        first = np.where(e_values(t, n) >= 1 / ALPHA, n, first)
    assert np.median(first) == median


def test_a_study_that_is_judged_after_each_seed_ends_with_the_verdict_of_its_first_rejection() -> None:
    """The vectorised looks of this file are `judge`'s."""
    for values in studies(NOISES["normal"], 60, seed=4, shift=2.0, arms=2, seeds=12):
        listed = np.array(list(values["arm 1"].values())) - np.array(list(values["arm 0"].values()))
        rejected = False
        for n in range(FIRST_LOOK, 13):
            rejected |= bool(e_values(stats.ttest_1samp(listed[:n], 0).statistic, n) >= 1 / ALPHA)
            looked = {arm: dict(list(of.items())[:n]) for arm, of in values.items()}
            verdict = judge(looked, "arm 0", sequential=True)[1].verdict
            assert verdict == ("worse" if rejected else "inconclusive")
        assert n == 12 and math.isfinite(critical_t(n, ALPHA))


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "seeds"), [(0.7, 5), (1.2, 8), (0.5, 20)])
def test_effects_are_found_as_often_as_theory_says_for_paired_data(effect: float, seeds: int) -> None:
    """One arm. Its noise and the baseline's make differences with a deviation of sqrt(2) of the noise's."""
    count = 1_500
    observed = rate(studies(NOISES["normal"], count, seed=5, shift=effect * math.sqrt(2), arms=2, seeds=seeds), sequential=False)
    theory = float(TTestPower().power(effect, seeds, ALPHA))
    assert abs(observed - theory) < 3.3 * math.sqrt(theory * (1 - theory) / count)


@pytest.mark.slow
def test_the_smallest_resolvable_effect_of_a_study_is_found_with_its_power_in_every_arm() -> None:
    """Five arms: each is found at least as often as at a quarter of alpha, which is what `resolvable` promises; Holm's correction adds."""
    count, seeds = 600, 8
    draw = studies(NOISES["normal"], count, seed=6, arms=5, seeds=seeds)
    promised = [one.resolvable / one.noise for one in judge(next(draw), "arm 0") if one.noise and one.resolvable]
    assert promised == pytest.approx([promised[0]] * 4)
    found = [
        one.verdict == "worse"
        for values in studies(NOISES["normal"], count, seed=7, shift=promised[0] * math.sqrt(2), arms=5, seeds=seeds)
        for one in judge(values, "arm 0")[1:]
    ]
    assert 0.8 - 3.3 * math.sqrt(0.16 / count) < np.mean(found) < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [False, True], ids=["once at the end", "after every seed"])
def test_no_more_studies_than_alpha_call_an_arm_equivalent_that_differs_by_the_margin(sequential: bool) -> None:
    count = 1_000
    hits = [
        any(one.verdict == "equivalent" for one in judge(values, "arm 0", equivalence=0.002, sequential=sequential))
        for values in studies(NOISES["normal"], count, seed=8, shift=2.0)
    ]
    assert no_more_than(float(np.mean(hits)), ALPHA, count)


def test_differences_that_are_skewed_by_themselves_are_where_the_test_errs_more_often() -> None:
    """What statistics.py owns up to: an arm with rare bad seeds that the baseline does not have, and a mean of zero all the same."""
    differences = np.random.default_rng(9).exponential(1, (20_000, 20)) - 1
    errs = {n: float(np.mean(stats.ttest_1samp(differences[:, :n], 0, axis=1).pvalue <= ALPHA)) for n in (3, 5, 20)}
    assert errs == pytest.approx({3: 0.114, 5: 0.117, 20: 0.083}, abs=0.008)
