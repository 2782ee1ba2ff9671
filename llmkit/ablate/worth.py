"""A difference of the metric as training tokens: "worth 7% (4-10%) of the training tokens".

The question: with how many tokens T' would the *baseline* have ended where the arm ended? The answer is T'/T - 1, a fraction of its own
T tokens. Positive: the arm is better, and worth so many more tokens. Negative: the arm is worse, and costs so many of them.

It is read off the baseline's own curve of the metric over tokens, the mean over its seeds.

An arm that is better, or a little worse: by the slope b at the end, that of the least-squares line of the metric over ln(tokens) through
the second half of the tokens (at least the last three points): T' = T exp(gain / b). For an arm that is better this goes beyond the last
point: it is extrapolated, and nothing beyond twice the tokens is believed.

An arm so much worse that the line leaves the second half: T' is where the curve itself, made monotone, had that value.

**What is approximate.** Where the learning rate decays, a point on the way is not where a shorter run would have ended: that one would
have decayed too, and ended lower. Over its second half the curve therefore falls further than the ends of shorter runs do, and the same
difference is fewer tokens on it than in truth. So the figure is a lower bound in size, and is told as "at least"; only with a constant
learning rate (`decayed=False`) is it told as it is, and even there it is some tenth too small, because the slope is that of the second
half and not of its end. A narrower window would not do: with the rate near zero the very end of a curve is flat. The interval is that
of the difference; the slope is taken as known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmkit.ablate.results import Worth

MOST = 1.0
"""Beyond twice the tokens the slope at the end says nothing."""

FEWEST_POINTS = 3

Curve = Sequence[tuple[float, float]]
"""(tokens, metric), in any order."""


def worth(
    curve: Curve, difference: float, interval: tuple[float, float] | None = None, *, higher_is_better: bool = False, decayed: bool = True
) -> Worth | None:
    """A difference (arm minus baseline) in tokens of the baseline; None where its curve cannot tell.

    curve       of the baseline, its last point the end of training: see `mean_curve`
    interval    of the difference
    decayed     whether the learning rate fell towards the end: the figures are then lower bounds in size

    None: fewer than three points, or a metric that does not improve towards the end.
    """
    towards = -1.0 if higher_is_better else 1.0
    points = sorted((float(tokens), towards * value) for tokens, value in curve if tokens > 0 and math.isfinite(value))
    if len(points) < FEWEST_POINTS:
        return None
    tokens, losses = (np.array(column) for column in zip(*points, strict=True))
    slope = _slope(tokens, losses)
    if slope is None:
        return None
    fraction = _fraction(tokens, losses, slope, towards * difference)
    ends = None
    if interval is not None:
        low, high = sorted(_fraction(tokens, losses, slope, towards * end) for end in interval)
        ends = (low, high)
    return Worth(fraction=fraction, interval=ends, words=_words(fraction, ends, 1 - float(tokens[0] / tokens[-1]), decayed))


def mean_curve(curves: Iterable[Curve]) -> list[tuple[float, float]]:
    """The mean over seeds, at the tokens that every curve has."""
    by_tokens = [dict(curve) for curve in curves]
    if not by_tokens:
        return []
    shared = sorted(set.intersection(*(set(curve) for curve in by_tokens)))
    return [(tokens, sum(curve[tokens] for curve in by_tokens) / len(by_tokens)) for tokens in shared]


def _slope(tokens: NDArray[np.float64], losses: NDArray[np.float64]) -> float | None:
    """How much the loss falls as ln(tokens) rises by 1, at the end; None where it does not fall."""
    late = max(FEWEST_POINTS, int(np.sum(tokens >= tokens[-1] / 2)))
    across, down = np.log(tokens[-late:]), losses[-late:]
    across = across - across.mean()
    if not across.any():
        return None
    slope = -float(across @ (down - down.mean()) / (across @ across))
    return slope if slope > 0 else None


def _fraction(tokens: NDArray[np.float64], losses: NDArray[np.float64], slope: float, excess: float) -> float:
    """T'/T - 1 for a loss that ends `excess` above the baseline's, between 0 tokens and twice as many."""
    logarithm = -excess / slope
    if logarithm >= math.log1p(MOST):
        return MOST
    if logarithm >= -math.log(2):
        return math.expm1(logarithm)
    falling = np.minimum.accumulate(losses)
    target = losses[-1] + excess
    # Rising values are what interp takes: the curve is read from its end.
    log_tokens = np.interp(target, falling[::-1], np.log(tokens)[::-1])
    return min(-0.5, float(np.exp(log_tokens) / tokens[-1]) - 1)


def _words(fraction: float, interval: tuple[float, float] | None, earliest: float, decayed: bool) -> str:
    """`worth 7% (4-10%) of the training tokens`; `earliest` is the cost at the curve's first point, before which nothing was measured."""
    decided = interval is None or interval[0] >= 0 or interval[1] <= 0
    bound, size = ("at least " if decayed and decided else "about " if decayed else ""), abs(fraction)
    if fraction >= MOST or fraction <= -earliest:
        bound, size = "more than ", MOST if fraction > 0 else earliest
    verb, extrapolated = ("worth", ", extrapolated") if fraction > 0 else ("costs", "")
    return f"{verb} {bound}{_percent(size)}{_range(interval)} of the training tokens{extrapolated}"


def _range(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    if low < 0 < high:
        return f" (from a cost of {_percent(-low)} to a worth of {_limit(high)})"
    near, far = sorted((abs(low), abs(high)))
    return f" ({_percent(near)} to {_limit(far)})" if high >= MOST else f" ({_percent(near)[:-1]}-{_percent(far)})"


def _limit(fraction: float) -> str:
    return f"more than {_percent(MOST)}" if fraction >= MOST else _percent(fraction)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}%" if fraction >= 0.015 or not fraction else f"{100 * fraction:.2g}%"
