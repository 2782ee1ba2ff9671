"""Learning curves: the mean over an arm's seeds, and the range of the seeds as a band. Once whole, once the end enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llmkit.ablate.report.words import axis_of, ordered
from llmkit.ablate.results import ArmResult, StudyResult
from llmkit.typeset.digits import measured, quantity
from llmkit.typeset.frame import (
    LETTER,
    LINE,
    WIDTH,
    Drawing,
    Point,
    Scale,
    axes,
    dash,
    ink,
    path,
    picture,
    shortened,
    spaced,
    typical,
)
from llmkit.typeset.markup import node

START = 0.08
"""The part of the tokens after which a value decides how high the figure reaches: what is before falls too steeply to be read."""

END = 0.75
"""Where the enlarged end begins."""

KEY = 16
"""Length of the piece of line beside a label."""

LETTERS = 17
BANDED = 8
"""Arms beyond which only the means are drawn: more bands than that make one ground of all."""


class Curve(NamedTuple):
    """An arm's curve and what it is drawn with."""

    name: str
    place: int
    mean: list[Point]
    low: list[Point]
    high: list[Point]
    broken: list[list[Point]]
    """Of each seed that did not finish."""


def draw(result: StudyResult) -> list[Drawing]:
    """The figures of the curves: the whole, and the end."""
    found = [curve_of(arm, index) for index, arm in enumerate(ordered(result))]
    drawn = [curve for curve in found if len(curve.mean) > 1 or any(len(one) > 1 for one in curve.broken)]
    if not drawn:
        return [Drawing("curves", "Learning curves", None, "No learning curves were recorded.")]
    if len(drawn) > BANDED:
        drawn = [curve._replace(low=curve.mean, high=curve.mean) for curve in drawn]
    drawings = [_whole(result, drawn)]
    if any(len(_from(curve.mean, _furthest(drawn) * END)) > 1 for curve in drawn):
        drawings.append(_end(result, drawn))
    return drawings


def curve_of(arm: ArmResult, index: int) -> Curve:
    """The mean and the range over the seeds that finished, at the tokens at which all of them have a value."""
    whole = [dict(cell.curve) for cell in arm.cells if cell.ending == "finished" and cell.curve]
    shared = sorted(set(whole[0]).intersection(*whole[1:]) or set().union(*whole)) if whole else []
    values = [(tokens, [one[tokens] for one in whole if tokens in one]) for tokens in shared]
    return Curve(
        arm.name,
        index,
        [(tokens, sum(group) / len(group)) for tokens, group in values],
        [(tokens, min(group)) for tokens, group in values],
        [(tokens, max(group)) for tokens, group in values],
        [sorted(cell.curve) for cell in arm.cells if cell.ending in ("diverged", "crashed") and cell.curve],
    )


def _whole(result: StudyResult, curves: Sequence[Curve]) -> Drawing:
    furthest = _furthest(curves)
    values = [value for curve in curves for line in (curve.low, curve.high) for _, value in _from(line, furthest * START)]
    values = values or [value for curve in curves for line in curve.broken for _, value in line]
    broken = [curve.name for curve in curves if curve.broken]
    caption = ("The mean over seeds; the band is their range." if len(curves) <= BANDED else "The mean over seeds.") + (
        f" A thin line that ends in a cross is a run that did not finish ({', '.join(broken)})." if broken else ""
    )
    return Drawing("curves", "Learning curves", _picture("curves", result, curves, values, 0.0, furthest), caption)


def _end(result: StudyResult, curves: Sequence[Curve]) -> Drawing:
    """The last part, on a scale of its own; arms that end far from all others would make one line of the rest, and are named instead."""
    furthest = _furthest(curves)
    begin = furthest * END
    ended = [curve for curve in curves if len(_from(curve.mean, begin)) > 1]
    reference = ended[0].mean[-1][1]
    reaches = [abs(curve.mean[-1][1] - reference) for curve in ended]
    limit = typical(reaches)
    shown = [curve._replace(broken=[]) for curve, reach in zip(ended, reaches) if reach <= limit]
    away = [f"{curve.name} ends at {measured(curve.mean[-1][1])}" for curve, reach in zip(ended, reaches) if reach > limit]
    values = [value for curve in shown for line in (curve.low, curve.high) for _, value in _from(line, begin)]
    caption = "The last quarter of the tokens, enlarged." + (f" Off this scale: {'; '.join(away)}." if away else "")
    cut = [curve._replace(mean=_from(curve.mean, begin), low=_from(curve.low, begin), high=_from(curve.high, begin)) for curve in shown]
    return Drawing("ends", "The end of the curves", _picture("ends", result, cut, values, begin, furthest), caption)


def _picture(key: str, result: StudyResult, curves: Sequence[Curve], values: Sequence[float], begin: float, end: float) -> Element:
    title = axis_of(result)
    labels = [shortened(curve.name, LETTERS) for curve in curves]
    right = WIDTH - KEY - 12 - max(map(len, labels)) * LETTER
    height = max(280.0, 80 + LINE * len(curves))
    down = Scale.around(values, height - 40, 26)
    across = Scale(begin, end, 46, right)
    parts = axes(across, down, "training tokens", title)
    for curve in reversed(curves):
        parts += _lines(curve, across, down)
    parts += _labels(curves, labels, across, down)
    description = "; ".join(_described(curve) for curve in curves)
    return picture(key, f"{title} against training tokens", description, height, parts)


def _lines(curve: Curve, across: Scale, down: Scale) -> list[Element]:
    parts: list[Element] = []
    for high, low in zip(_pieces(curve.high, down, clamp=True), _pieces(curve.low, down, clamp=True)):
        around = _placed([*high, *reversed(low)], across, down)
        parts.append(node("path", class_=f"band {ink(curve.place)}", d=path(around) + "Z"))
    for broken in curve.broken:
        parts += _broken(broken, curve.place, across, down)
    for piece in _pieces(curve.mean, down):
        line = path(_placed(piece, across, down))
        parts.append(node("path", class_=f"line {ink(curve.place)}", d=line, stroke_dasharray=dash(curve.place)))
    return parts


def _broken(points: Sequence[Point], index: int, across: Scale, down: Scale) -> list[Element]:
    """A run that did not finish, with a cross at the last point that the figure has room for."""
    pieces = _pieces(points, down)
    if not pieces:
        return []
    parts = [node("path", class_=f"thin {ink(index)}", d=path(_placed(piece, across, down))) for piece in pieces if len(piece) > 1]
    (x, y) = _placed(pieces[-1][-1:], across, down)[0]
    return [*parts, node("path", class_=f"cross {ink(index)}", d=f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6")]


def _labels(curves: Sequence[Curve], labels: Sequence[str], across: Scale, down: Scale) -> list[Element]:
    """Each line's name at its end, moved apart where lines end together, with a piece of the line to find it by."""
    ends = [_label_end(curve, down) for curve in curves]
    places = spaced([down.at(end[1]) if end else down.end for end in ends], down.end, down.start - 4)
    parts: list[Element] = []
    for curve, label, end, y in zip(curves, labels, ends, places):
        start = across.end + 4
        if end is not None:
            x = across.at(end[0])
            parts.append(node("path", class_="leader", d=path([(x + 1, down.at(end[1])), (start, y)])))
        drawn = path([(start, y), (start + KEY, y)])
        parts.append(node("path", class_=f"line {ink(curve.place)}", d=drawn, stroke_dasharray=dash(curve.place)))
        whole = [] if label == curve.name else [node("title", curve.name)]
        parts.append(node("text", label, whole, class_="label", x=start + KEY + 4, y=y + 3.7))
    return parts


def _label_end(curve: Curve, down: Scale) -> Point | None:
    """Where a line's label belongs: its last point that is in the figure."""
    for line in (curve.mean, *curve.broken):
        pieces = _pieces(line, down)
        if pieces:
            return pieces[-1][-1]
    return None


def _pieces(points: Sequence[Point], down: Scale, clamp: bool = False) -> list[list[Point]]:
    """A line cut at the frame: the pieces of it that lie inside, ending where it crosses.

    clamp  instead of cutting, press what lies outside onto the frame, which keeps both sides of a band alike
    """
    if clamp:
        return [[(x, min(max(y, down.low), down.high)) for x, y in points]] if points else []
    pieces: list[list[Point]] = []
    before: Point | None = None
    for point in points:
        inside = down.holds(point[1])
        if before is not None and down.holds(before[1]) != inside:
            edge = _crossing(before, point, down)
            if inside:
                pieces.append([edge])
            else:
                pieces[-1].append(edge)
        elif inside and (before is None or not pieces):
            pieces.append([])
        if inside:
            pieces[-1].append(point)
        before = point
    return pieces


def _crossing(one: Point, other: Point, down: Scale) -> Point:
    """Where the line from one point to the other meets the upper or lower edge."""
    outside = one if not down.holds(one[1]) else other
    edge = down.high if outside[1] > down.high else down.low
    part = (edge - one[1]) / (other[1] - one[1])
    return (one[0] + part * (other[0] - one[0]), edge)


def _placed(points: Sequence[Point], across: Scale, down: Scale) -> list[Point]:
    return [(across.at(x), down.at(y)) for x, y in points]


def _from(points: Sequence[Point], begin: float) -> list[Point]:
    """The points from a number of tokens on."""
    return [point for point in points if point[0] >= begin]


def _furthest(curves: Sequence[Curve]) -> float:
    return max(x for curve in curves for line in (curve.mean, *curve.broken) for x, _ in line)


def _described(curve: Curve) -> str:
    if not curve.mean:
        return f"{curve.name}: no seed finished"
    tokens, value = curve.mean[-1]
    return f"{curve.name}: {measured(value)} at {quantity(tokens)} tokens"
