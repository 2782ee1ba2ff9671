"""Statistics of paired seeds: how large the difference is, how sure that is, and how many seeds would say more.

Seed i gives the difference d_i = value of the arm - value of the baseline; what both share with that seed (data order, common
initial weights) cancels. Of n of them, mean m and standard deviation s (the noise floor):

    t = m / (s / sqrt(n)),  Student's with n - 1 degrees of freedom where there is no difference.

The t-test is exact for normal differences. Where arm and baseline have the same distribution, whatever it is, differences are
symmetric, and heavy tails make the test careful rather than rash: in 2,000 simulated studies each of normal noise, Student's with 3
degrees of freedom, lognormal noise, and outliers, it erred in 4.4, 3.7, 2.0 and 1.4% at alpha 5%. What it does not survive is
differences that are skewed by themselves, an arm with rare bad seeds that the baseline does not have: exponential ones err in 11%
with 3 or 5 seeds and 8% with 20, lognormal ones (sigma 1) in 16 to 18% and 13%. So few seeds show no skew: look at the paired
differences. The exact sign-flip test needs symmetry too, but nothing else; it reaches no p below 2^(1 - n).

Differences that are all *equal* are not normal at all: the metric is coarse (an accuracy of some hundred questions, at its ceiling), and a
t of infinity says nothing. See `equal_p` for what so many equal ones are worth.

What is about *several* arms uses alpha / arms, the first and hardest step of Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtr, stdtrit
from scipy.stats import norm

SIGN_FLIPS_UP_TO = 30
"""Differences of which all sign assignments are counted: a thousand million."""

ROUNDING = 1e-9
"""By how much of themselves values may differ that count as equal: far below what tells two runs apart, far above fp64."""

MOST_SEEDS = 10_000
"""More seeds than this nobody runs: what they would settle counts as not to be settled."""


@dataclass(frozen=True)
class Estimate:
    """A difference and what is known of its noise.

    mean       of the arm's differences to the baseline, in the metric's unit
    deviation  standard deviation of one seed's difference: the noise floor
    error      standard error of the mean
    freedom    degrees of freedom of the error
    """

    mean: float
    deviation: float
    error: float
    freedom: float

    @property
    def seeds(self) -> float:
        """How many seeds such an error takes: of paired seeds their number; of unpaired ones between those of the two arms."""
        return (self.deviation / self.error) ** 2 if self.error else self.freedom + 1

    def freedom_at(self, seeds: int) -> float:
        """Degrees of freedom with another number of seeds."""
        return self.freedom * (seeds - 1) / (self.seeds - 1)


def paired_estimate(differences: Sequence[float]) -> Estimate:
    """Of the differences of at least two seeds that both arms have."""
    values = np.asarray(differences, dtype=float)
    deviation = spread(values)
    return Estimate(float(values.mean()), deviation, deviation / math.sqrt(len(values)), len(values) - 1)


def welch_estimate(arm: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Of two samples that share nothing, at least two values each; Welch's degrees of freedom."""
    of_arm, of_baseline = (spread(np.asarray(values, dtype=float)) ** 2 for values in (arm, baseline))
    a, b = of_arm / len(arm), of_baseline / len(baseline)
    freedom = (a + b) ** 2 / (a**2 / (len(arm) - 1) + b**2 / (len(baseline) - 1)) if a + b else float(min(len(arm), len(baseline)) - 1)
    return Estimate(float(np.mean(arm) - np.mean(baseline)), math.sqrt(of_arm + of_baseline), math.sqrt(a + b), freedom)


def spread(values: NDArray[np.float64]) -> float:
    """Standard deviation (n - 1), and exactly 0 for values that are equal but for rounding: 0.9 - 0.8 and 0.4 - 0.3."""
    return 0.0 if np.ptp(values) <= ROUNDING * np.abs(values).max() else float(values.std(ddof=1))


def t_p(estimate: Estimate) -> float:
    """Two-sided p of no difference. Where all differences are equal: `equal_p`, and 1 where they are zero."""
    if not estimate.error:
        return equal_p(round(estimate.freedom) + 1) if estimate.mean else 1.0
    return float(2 * stdtr(estimate.freedom, -abs(estimate.mean) / estimate.error))


def equal_p(seeds: int) -> float:
    """How often so many differences are all equal, and not zero, where arm and baseline have the same distribution: 4^(1 - n) at most.

    For any one c != 0, P(X - Y = c) <= 1/4: c links the values a, a + c, a + 2c, ... to chains, and every linked pair takes one from the
    even and one from the odd places, of which one class has the probability q and the other 1 - q. So the sum over all c of
    P(X - Y = c)^n is at most (1/4)^(n - 1), also where each seed has a distribution of its own (Hölder). 0 and 1, half of the time each,
    with two seeds: 1/8 of 1/4.
    """
    return float(4.0 ** (1 - seeds))


def t_interval(estimate: Estimate, alpha: float) -> tuple[float, float]:
    """The interval that holds the true difference in 1 - alpha of all studies, for one arm by itself."""
    reach = critical_t(estimate.freedom, alpha) * estimate.error
    return estimate.mean - reach, estimate.mean + reach


def critical_t(freedom: float, alpha: float) -> float:
    """The t beyond which a two-sided test finds a difference."""
    return float(stdtrit(freedom, 1 - alpha / 2))


def equivalence_p(estimate: Estimate, margin: float) -> float:
    """The two one-sided tests (TOST, Schuirmann 1987): the larger p of `difference <= -margin` and `difference >= margin`."""
    if not estimate.error:
        return 0.0 if abs(estimate.mean) < margin else 1.0
    return float(stdtr(estimate.freedom, (abs(estimate.mean) - margin) / estimate.error))


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Exact two-sided p over all sign assignments; None for more than 30 differences.

    Where an arm does not differ, each difference is as likely with the other sign: p is the part of the 2^n sums that are as far from
    zero as the observed one. They are counted from the sums of two halves, 2^(n/2) each.
    """
    if not differences or len(differences) > SIGN_FLIPS_UP_TO:
        return None
    rounding = 1e-12 * math.fsum(map(abs, differences))
    observed = abs(math.fsum(differences)) - rounding
    if observed <= 0:
        return 1.0
    middle = (len(differences) + 1) // 2
    left, right = _signed_sums(differences[:middle]), np.sort(_signed_sums(differences[middle:]))
    above = len(right) - np.searchsorted(right, observed - left, side="left")
    below = np.searchsorted(right, -observed - left, side="right")
    return float(np.sum(above + below) / (len(left) * len(right)))


def _signed_sums(values: Sequence[float]) -> NDArray[np.float64]:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p: the smallest of n is held against alpha / n, the next against alpha / (n - 1), until one fails.

    However the tests depend on each other (all arms share the baseline), at most alpha of studies reject any true hypothesis. Written
    here, and held against statsmodels by a test, since that one collects garbage on each call, a tenth of a second in a process with torch.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def found(effect: float, seeds: float, freedom: float, critical: float) -> float:
    """Power: how often |t| reaches `critical` where the true difference is `effect` standard deviations of one seed's difference.

    P(|T| >= c), T noncentral t with noncentrality effect * sqrt(seeds).
    """
    if math.isinf(critical):
        return 0.0
    if math.isinf(effect):
        return 1.0
    shift = abs(effect) * math.sqrt(seeds)
    return 1 - _below(freedom, shift, critical) + _below(freedom, shift, -critical)


def found_equivalent(effect: float, margin: float, seeds: float, freedom: float, critical: float) -> float:
    """How often both one-sided tests reach `critical`; `effect` and `margin` in standard deviations. A lower bound, near from .5 on.

    1 - P(one fails) - P(the other fails): exact but for the studies in which both would fail.
    """
    if math.isinf(critical):
        return 0.0
    misses = (_below(freedom, (margin + side * effect) * math.sqrt(seeds), critical) for side in (-1, 1))
    return max(0.0, 1 - sum(misses))


def _below(freedom: float, shift: float, t: float) -> float:
    """P(T <= t) of the noncentral t; where scipy gives up, far out in the tails, 0 or 1."""
    probability = float(nctdtr(freedom, shift, t))
    return float(shift < t) if math.isnan(probability) else probability


@lru_cache(maxsize=4096)
def resolvable_effect(seeds: float, freedom: float, critical: float, power: float) -> float | None:
    """Smallest true difference, in standard deviations of one seed's difference, that is found with this power; None where none is."""
    if math.isinf(critical):
        return None
    return float(
        brentq(lambda effect: found(effect, seeds, freedom, critical) - power, 0, _far(critical, power) / math.sqrt(seeds), xtol=1e-12)
    )


def _far(critical: float, power: float) -> float:
    """A shift that is found with more than this power even by one degree of freedom."""
    return (critical + 1) * 10 / (1 - power)


def seeds_needed(enough: Callable[[int], bool], start: int, most: int = MOST_SEEDS) -> int | None:
    """Smallest number of seeds from `start` on that is enough, where more are always enough as well; None beyond `most`."""
    low, high = start - 1, start
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def unpaired_seeds_needed(effect: float, deviation: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Seeds that each of two arms needs where seeds are not paired, by the normal approximation: ceil(2 (z_a + z_b)^2 s^2 / d^2).

    effect, deviation  the true difference d and the standard deviation s of an arm over seeds, in one unit
    """
    quantiles = norm.isf(alpha / 2) + norm.isf(1 - power)
    return math.ceil(2 * float(quantiles * deviation / effect) ** 2)
