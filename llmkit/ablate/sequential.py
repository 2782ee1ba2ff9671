"""Looking after every seed without being fooled by it: an anytime-valid t-test and the confidence sequence that belongs to it.

After n paired differences with mean m, standard error e and t = m / e, the evidence against no difference is the Bayes factor of
"the difference is some number of standard deviations, drawn from N(0, 1/g)" against "it is zero", with the right-Haar prior
1/sigma on the scale in both:

    E_n = sqrt(g / (g + n)) ((1 + t^2 / (n-1)) / (1 + g/(g+n) t^2 / (n-1)))^(n/2)

For normal differences without a true one, E_1, E_2, ... is a nonnegative martingale with mean 1 whatever their scale, so by
Ville's inequality it *ever* reaches 1 / alpha in at most alpha of studies: one may look whenever one likes and stop when one likes
(Lai 1976; Grünwald, de Heide and Koolen 2024; Wang and Ramdas 2024, theorem 4.9). A rejection once made stays: what counts is the
largest value so far, and 1 over it is a p that holds at all times.

The differences mu that no look rejects are the confidence sequence. E_n rises with t^2 alone, so that E_n >= 1/alpha is solved
for t: with r = g/(g+n) and c = (1 / (alpha sqrt(r)))^(2/n),

    t^2 >= (n-1) (c - 1) / (1 - r c)        where r c < 1; else n seeds reject nothing, however clear they are.

Where arm and baseline have the same distribution, heavy tails and outliers included, differences are symmetric, and the rate holds in
simulated studies. It does not for differences that are skewed by themselves, an arm with rare bad seeds that the baseline does not
have: of 2,000 simulated studies with a mean of zero, exponential ones err in 11%, lognormal ones (sigma 1) in 20%, at alpha 5%.

Several arms: 1 over the largest E is a p at all times, so Holm's correction of these holds at all times too; and the confidence
sequences at alpha / arms hold together, for all arms and at all times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmkit.ablate.results import Judgement

PRECISION = 0.25
"""g: a true difference is expected within a few (1 / sqrt(g) = 2) standard deviations of one seed's difference."""

FIRST_LOOK = 3
"""Seeds at the first look. Two say next to nothing of the scale."""

LARGEST_LOG = 690.0
"""Evidence beyond e^690 is written as that, since JSON has no infinity."""


@dataclass(frozen=True)
class Evidence:
    """What all looks together say.

    e_value       the largest so far, against no difference
    above         whether the mean difference was above zero at that look
    interval      what every look's interval has in common; None until one is finite
    e_equivalent  against a difference as large as the margin, on the side with less evidence; None without a margin
    """

    e_value: float
    above: bool
    interval: tuple[float, float] | None
    e_equivalent: float | None


def e_values(t: ArrayLike, seeds: ArrayLike, precision: float = PRECISION) -> NDArray[np.float64]:
    """E_n for t-statistics of n >= 2 paired differences, elementwise. Infinite t, differences without noise, has the limit r^((1-n)/2)."""
    n = np.asarray(seeds, dtype=float)
    ratio = precision / (precision + n)
    x = np.asarray(t, dtype=float) ** 2 / (n - 1)
    with np.errstate(invalid="ignore"):
        growth = np.where(np.isinf(x), -np.log(ratio), np.log1p(x) - np.log1p(ratio * x))
    logs: NDArray[np.float64] = np.minimum(np.log(ratio) / 2 + n / 2 * growth, LARGEST_LOG)
    return np.exp(logs)


def critical_t(seeds: int, alpha: float, precision: float = PRECISION) -> float:
    """The |t| at which E_n is 1 / alpha; infinite where n seeds reject nothing."""
    ratio = precision / (precision + seeds)
    c = (1 / (alpha * math.sqrt(ratio))) ** (2 / seeds)
    return math.sqrt((seeds - 1) * (c - 1) / (1 - ratio * c)) if ratio * c < 1 else math.inf


def look_after_each(
    differences: Sequence[float], *, alpha: float, margin: float | None = None, precision: float = PRECISION
) -> Evidence | None:
    """The evidence after looks at the first 3, 4, ... of the differences, in their order; None before the first look.

    alpha   of the interval
    margin  differences within it are none to the user
    """
    values = np.asarray(differences, dtype=float)
    looks = range(FIRST_LOOK, len(values) + 1)
    if not looks:
        return None
    counts = np.array(looks)
    means, errors = _moments(values, counts)
    evidence = e_values(_t(means, errors), counts, precision)
    largest = int(np.argmax(evidence))
    critical = np.array([critical_t(n, alpha, precision) for n in looks])
    reaches = critical * np.where(np.isinf(critical), 1.0, errors)
    return Evidence(
        e_value=float(evidence[largest]),
        above=bool(means[largest] > 0),
        interval=_in_common(means, reaches),
        e_equivalent=None if margin is None else _against_margin(means, errors, counts, margin, precision),
    )


def _moments(values: NDArray[np.float64], counts: NDArray[np.int_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard error of the first n values, for each n. Taken from the first: equal values have no error."""
    beyond = values - values[0]
    sums, squares = np.cumsum(beyond)[counts - 1], np.cumsum(beyond**2)[counts - 1]
    return values[0] + sums / counts, np.sqrt((squares - sums**2 / counts) / (counts - 1) / counts)


def _t(distances: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """distance / error; without noise infinite, and 0 where there is no distance either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(distances / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _in_common(means: NDArray[np.float64], reaches: NDArray[np.float64]) -> tuple[float, float] | None:
    """The running intersection. A look that contradicts those before it, as happens in at most alpha of studies, changes nothing."""
    low, high = -math.inf, math.inf
    for mean, reach in zip(means, reaches, strict=True):
        below, above = max(low, mean - reach), min(high, mean + reach)
        if below <= above:
            low, high = below, above
    return (float(low), float(high)) if math.isfinite(high - low) else None


def _against_margin(
    means: NDArray[np.float64], errors: NDArray[np.float64], counts: NDArray[np.int_], margin: float, precision: float
) -> float:
    """How much the looks say against a difference of `margin` and of `-margin`, each at a look with its mean inside: the lesser of the two.

    It reaches 1 / alpha exactly where the confidence sequence at alpha lies within the margin.
    """
    sides = []
    for edge in (-margin, margin):
        inside = (means - edge) * edge < 0
        against = e_values(_t(means - edge, errors), counts, precision)
        sides.append(float(np.max(against, where=inside, initial=0.0)))
    return min(sides)


def settled(judgements: Iterable[Judgement]) -> bool:
    """Whether more seeds would change nothing: every arm but the baseline has another verdict than `inconclusive`."""
    return all(one.verdict != "inconclusive" for one in judgements)
