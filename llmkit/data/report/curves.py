"""Figures of curves: what a threshold drops wherever it stands, and how probably a pair of documents is found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from xml.etree.ElementTree import Element

from llmkit.data.funnel import Audit, Clusters, Funnel, Sensitivity
from llmkit.data.report import bars
from llmkit.data.report.bars import Bar
from llmkit.data.report.tables import limit_words
from llmkit.data.report.thresholds import above, below, dropped_in_use
from llmkit.typeset.digits import count, given, portion
from llmkit.typeset.frame import LETTER, WIDTH, Drawing, Point, Scale, axes, path, picture, shortened
from llmkit.typeset.markup import node
from llmkit.typeset.sentence import many
from llmkit.typeset.visible import one_line

HEIGHT = 190.0
TALL = 260.0
LETTERS = 30
"""Of a statistic's name under its axis."""

STEPS = 80
"""Points of a curve."""

LEAST_TOP = 0.05
"""The least part of the documents that the upright axis goes up to."""

ROOM = 4.0
"""Times the part dropped in use that it goes up to, where that is more: what matters is near the threshold."""

AWAY = 1.5
"""Times the width of the statistic's range at which a threshold is too far away to be on its axis."""

Z = 1.96


def sensitivity_drawings(funnel: Funnel) -> list[Drawing]:
    """A figure for each threshold."""
    return [_sensitivity(one, place) for place, one in enumerate(funnel.sensitivities) if one.values]


def duplicate_drawings(funnel: Funnel) -> list[Drawing]:
    """For each deduplicator the sizes of its clusters, and its curve where it was measured."""
    return [drawing for place, one in enumerate(funnel.clusters) for drawing in (*_sizes(one, place), *_found(one, place))]


def _sensitivity(one: Sensitivity, place: int) -> Drawing:
    key = f"threshold-{place}"
    parameter, statistic = one_line(one.parameter, 40), one_line(one.statistic, 40)
    title = f"{one.stage}: {parameter}"
    here = dropped_in_use(one)
    top = min(1.0, max(LEAST_TOP, ROOM * here))
    across = Scale.around(_reach(one, top), 46, WIDTH - 8, margin=0.02)
    down = Scale(0.0, top * 100, HEIGHT - 40, 26)
    parts = axes(across, down, shortened(statistic, LETTERS), "% dropped")
    for limit, part, ink in ((one.least, below, 1), (one.most, above, 2)):
        if limit is None:
            continue
        parts += _curve(one.values, part, top, ink, across, down)
        parts += _in_use(limit, part(one.values, limit), ink, across, down)
    described = f"{limit_words(one)} drops {portion(here, 1)} of {many(one.n, 'document')}"
    ways = [("least", "to the right"), ("most", "to the left")]
    stricter = " or ".join(way for name, way in ways if getattr(one, name) is not None)
    caption = f"In use: {statistic} {limit_words(one)}, which drops {portion(here, 1)}. Stricter is {stricter}."
    return Drawing(key, title, picture(key, f"Part dropped against {parameter}", described, HEIGHT, parts), caption)


def _reach(one: Sensitivity, top: float) -> list[float]:
    """What the axis below holds: where the curve is within the figure, and the threshold unless it is far away."""
    last = len(one.values) - 1
    inner = one.values[round(0.01 * last) : round(0.99 * last) + 1] or one.values
    lows = inner[0] if one.least is not None else one.values[math.floor((1 - top) * last)]
    highs = inner[-1] if one.most is not None else one.values[math.ceil(top * last)]
    low, high = min(lows, highs), max(lows, highs)
    room = AWAY * (high - low) or math.inf
    near = [limit for limit in (one.least, one.most) if limit is not None and low - room <= limit <= high + room]
    return [low, high, *near]


def _curve(
    values: Sequence[float], part: Callable[[Sequence[float], float], float], top: float, ink: int, across: Scale, down: Scale
) -> Iterator[Element]:
    places = [across.low + (across.high - across.low) * step / STEPS for step in range(STEPS + 1)]
    parts = [(x, part(values, x)) for x in places]
    points: list[Point] = [(across.at(x), down.at(100 * dropped)) for x, dropped in parts if dropped <= top]
    if points:
        yield node("path", class_=f"line ink-{ink}", d=path(points), stroke_dasharray=None if ink == 1 else "6 3")


def _in_use(limit: float, dropped: float, ink: int, across: Scale, down: Scale) -> Iterator[Element]:
    """The threshold: an upright line with a dot on the curve, or an arrow to where it lies beyond the figure."""
    if not across.holds(limit):
        right = limit > across.high
        x, way, anchor = (across.end, 1, "end") if right else (across.start, -1, "start")
        y = down.start - 12
        yield node("path", class_=f"arrow ink-{ink}", d=f"M{x:.1f} {y:.1f}l{-5 * way} -3.5v7Z")
        yield node("text", given(limit), class_="label strong", x=x - 9 * way, y=y + 3.7, text_anchor=anchor)
        return
    x = across.at(limit)
    yield node("path", class_="zero", d=f"M{x:.1f} {down.start:.1f}V{down.end:.1f}")
    yield node("circle", class_=f"dot ink-{ink}", cx=x, cy=down.at(100 * dropped), r=4)
    label = given(limit)
    way, anchor = (1, "start") if x + 6 + len(label) * LETTER < WIDTH else (-1, "end")
    yield node("text", label, class_="label strong", x=x + 5 * way, y=down.end + 9, text_anchor=anchor)


def _sizes(one: Clusters, place: int) -> Iterator[Drawing]:
    if not one.sizes:
        return
    key = f"clusters-{place}"
    bins: dict[int, int] = {}
    for size, number in one.sizes.items():
        bins[size.bit_length()] = bins.get(size.bit_length(), 0) + number
    drawn = [Bar(_size_words(power), [number], count(number)) for power, number in sorted(bins.items())]
    described = "; ".join(f"{bar.name}: {bar.note}" for bar in drawn)
    shown = bars.rows(key, "How many clusters there are of each size", described, drawn, float(max(bins.values())))
    caption = "How many clusters there are of each size. Look for few very large ones: a chain of pairs may join what is not alike."
    yield Drawing(key, f"{one.stage}: clusters", shown, caption)


def _size_words(power: int) -> str:
    low, high = 1 << (power - 1), (1 << power) - 1
    return f"{count(low)} to {count(high)} documents"


def _found(one: Clusters, place: int) -> Iterator[Drawing]:
    audit = one.audit
    if audit is None or not any(point.pairs for point in audit.curve):
        return
    key = f"audit-{place}"
    across, down = Scale(0.0, 1.0, 46, WIDTH - 8), Scale(0.0, 100.0, TALL - 40, 26)
    parts = [*axes(across, down, "Jaccard similarity of the pair", "% of pairs found"), *_audit(audit, across, down)]
    measured = [point for point in audit.curve if point.pairs]
    described = "; ".join(f"{point.low:.2f} to {point.high:.2f}: {point.found} of {point.pairs} found" for point in measured)
    caption = (
        f"Pairs of {count(audit.documents)} sampled documents by their exact similarity: how many were found (dots, with 95% intervals), "
        "and how many theory expects (dashed). The upright line is the threshold. Look for dots below the dashes (something is missed) and "
        "for dots well above zero on the left (what is not alike is dropped: a chain of similar ones joined it)."
    )
    yield Drawing(key, f"{one.stage}: found against similar", picture(key, "Pairs found, by similarity", described, TALL, parts), caption)


def _audit(audit: Audit, across: Scale, down: Scale) -> Iterator[Element]:
    x = across.at(min(max(audit.threshold, 0.0), 1.0))
    yield node("path", class_="zero", d=f"M{x:.1f} {down.start:.1f}V{down.end:.1f}")
    expected = [
        (_middle(across, point.low, point.high), down.at(100 * point.expected)) for point in audit.curve if point.expected is not None
    ]
    if len(expected) > 1:
        yield node("path", class_="line ink-2", d=path(expected), stroke_dasharray="6 3")
    for point in audit.curve:
        if not point.pairs:
            continue
        x = _middle(across, point.low, point.high)
        low, high = wilson(point.found, point.pairs)
        yield node("path", class_="whisker ink-1", d=path([(x, down.at(100 * low)), (x, down.at(100 * high))]))
        told = node("title", f"{point.low:.2f} to {point.high:.2f}: {point.found:,} of {point.pairs:,}")
        yield node("circle", told, class_="dot ink-1", cx=x, cy=down.at(100 * point.found / point.pairs), r=3.5)


def wilson(found: int, pairs: int) -> Point:
    """Wilson's 95% interval of a proportion (Wilson 1927)."""
    part = found / pairs
    spread = 1 + Z * Z / pairs
    middle = (part + Z * Z / (2 * pairs)) / spread
    half = Z * math.sqrt(part * (1 - part) / pairs + Z * Z / (4 * pairs * pairs)) / spread
    return (max(middle - half, 0.0), min(middle + half, 1.0))


def _middle(across: Scale, low: float, high: float) -> float:
    return across.at((low + high) / 2)
