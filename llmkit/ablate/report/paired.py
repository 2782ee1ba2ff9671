"""Paired differences: a dot a seed, the interval of their mean, the zero line and the margin of equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from llmkit.ablate.report.words import compared, difference_words, interval_words, margin_words, ordered, unit_of
from llmkit.ablate.report.words import paired as are_paired
from llmkit.ablate.results import ArmResult, StudyResult
from llmkit.typeset.digits import MINUS, between, measured
from llmkit.typeset.frame import LETTER, UNDER, WIDTH, Drawing, Scale, across_axis, ink, path, picture, shortened, typical
from llmkit.typeset.markup import node

ROW = 46.0
TOP = 14.0
BELOW = 30.0
"""From the top of an arm's row to its dots: the name stands above them, so that a phone has the whole width."""

SCATTER = (0, -4.5, 4.5, -2.2, 2.2)
"""How far seeds stand above and below one another, so that equal ones are both seen."""

VERDICT = 13
"""Letters of the longest verdict, and a space."""

BOLD = 1.14
"""Times the width of a letter that is not."""


def draw(result: StudyResult) -> list[Drawing]:
    """The figure of the paired differences."""
    title = "Paired differences, seed by seed" if are_paired(result) else "Differences"
    arms = [arm for arm in compared(result) if arm.judgement.differences or arm.judgement.difference is not None]
    if not arms:
        return [Drawing("paired", title, None, "No arm shares a seed with the baseline yet, so there are no paired differences.")]
    limit = max(typical(map(reach, arms)), 1.3 * (result.equivalence or 0.0))
    bottom = TOP + ROW * len(arms)
    across = Scale.around([-limit, limit], 8, WIDTH - 8)
    places = {arm.name: index for index, arm in enumerate(ordered(result))}
    parts = _ground(result, across, [TOP + ROW * row - 3 for row in range(1, len(arms))], bottom)
    for row, arm in enumerate(arms):
        parts += _row(arm, places[arm.name], TOP + ROW * row, across)
    parts += across_axis(across, bottom, f"arm {MINUS} baseline, {unit_of(result) or result.metric}", sign=True)
    parts += _ways(result, across, bottom)
    described = "; ".join(f"{arm.name}: {difference_words(arm)} {between(arm.judgement.interval, sign=True)}" for arm in arms)
    drawn = picture("paired", f"{title}: arm minus baseline", described, bottom + 42, parts)
    return [Drawing("paired", title, drawn, _caption(result, [arm for arm in arms if reach(arm) > limit * 1.1]))]


def reach(arm: ArmResult) -> float:
    """How far from zero an arm's differences and interval go."""
    judgement = arm.judgement
    reached = [abs(value) for value in judgement.differences.values()]
    if judgement.difference is not None:
        reached.append(abs(judgement.difference))
    if judgement.interval is not None and len(judgement.seeds) > 2:
        reached += map(abs, judgement.interval)
    return max(reached, default=0.0)


def _ground(result: StudyResult, across: Scale, edges: Sequence[float], bottom: float) -> list[Element]:
    """The margin, hairlines between the arms, and the line at zero."""
    parts: list[Element] = []
    if result.equivalence:
        left, right = (across.at(max(across.low, min(across.high, edge))) for edge in (-result.equivalence, result.equivalence))
        parts.append(node("rect", class_="margin", x=left, y=TOP - 6, width=right - left, height=bottom - TOP + 6))
    parts += [node("path", class_="grid", d=f"M{across.start:.1f} {y:.1f}H{across.end:.1f}") for y in edges]
    return [*parts, node("path", class_="zero", d=f"M{across.at(0):.1f} {TOP - 6:.1f}V{bottom:.1f}")]


def _row(arm: ArmResult, index: int, top: float, across: Scale) -> list[Element]:
    judgement = arm.judgement
    y = top + BELOW
    letters = int((across.end - across.start) / (BOLD * LETTER)) - VERDICT
    label = shortened(arm.name, letters)
    parts = [
        node("text", label, [] if label == arm.name else [node("title", arm.name)], class_="label strong", x=across.start, y=top + 12),
        node("text", judgement.verdict or "", class_="label muted", x=across.end, y=top + 12, text_anchor="end"),
    ]
    if judgement.interval is not None:
        parts += _interval(judgement.interval, index, y, across)
    for rank, (seed, value) in enumerate(sorted(judgement.differences.items())):
        parts += _dot(seed, value, index, y + SCATTER[rank % len(SCATTER)], across)
    if judgement.difference is not None and across.holds(judgement.difference):
        x = across.at(judgement.difference)
        parts.append(node("path", class_=f"mean {ink(index)}", d=f"M{x:.1f} {y - 8:.1f}v16"))
    return parts


def _interval(interval: tuple[float, float], index: int, y: float, across: Scale) -> list[Element]:
    """The interval as a bar, with an arrow where it goes on beyond the scale."""
    low, high = interval
    if low > across.high or high < across.low:
        return []
    left, right = (across.at(max(across.low, min(across.high, edge))) for edge in interval)
    parts = [node("path", class_=f"interval {ink(index)}", d=path([(left, y), (right, y)]))]
    if low < across.low:
        parts.append(_arrow(left, y, -1, index))
    if high > across.high:
        parts.append(_arrow(right, y, 1, index))
    return parts


def _dot(seed: int, value: float, index: int, y: float, across: Scale) -> list[Element]:
    told = node("title", f"seed {seed}: {measured(value, sign=True)}")
    if across.holds(value):
        return [node("circle", told, class_=f"dot {ink(index)}", cx=across.at(value), cy=y, r=2.7)]
    return [_arrow(across.end if value > 0 else across.start, y, 1 if value > 0 else -1, index, told)]


def _arrow(x: float, y: float, way: int, index: int, told: Element | None = None) -> Element:
    """What lies beyond the scale."""
    return node("path", told, class_=f"arrow {ink(index)}", d=f"M{x:.1f} {y:.1f}l{-5 * way} -3.5v7Z")


def _ways(result: StudyResult, across: Scale, bottom: float) -> list[Element]:
    """Which way is which."""
    left, right = ("worse", "better") if result.higher_is_better else ("better", "worse")
    return [
        node("text", f"← {left}", class_="axis-title", x=across.start, y=bottom + UNDER),
        node("text", f"{right} →", class_="axis-title", x=across.end, y=bottom + UNDER, text_anchor="end"),
    ]


def _caption(result: StudyResult, away: Sequence[ArmResult]) -> str:
    margin = f"; the shaded ground is the margin of equivalence, {margin_words(result)}" if result.equivalence else ""
    beyond = "; ".join(f"{arm.name} {difference_words(arm)}" for arm in away)
    told = f" Triangles point to what lies off this scale ({beyond})." if away else ""
    dots = "A dot is a seed, the upright stroke their mean" if are_paired(result) else "The upright stroke is the difference of the means"
    return f"{dots}, the bar its {interval_words(result)}{margin}.{told}"
