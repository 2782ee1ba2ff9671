"""Figures of bars: a row a thing, or a column a bin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llmkit.typeset.frame import LETTER, UNDER, WIDTH, Scale, picture, shortened, tick_labels
from llmkit.typeset.markup import node

ROW = 34.0
TOP = 8.0
THICK = 7.0
APART = 2.0
HEIGHT = 240.0


class Bar(NamedTuple):
    """A thing with one bar or several, all parts of the same longest one.

    values  the length of each, in inks 1, 2, ...
    faint   how far each goes on in pale: what was lost
    note    what stands at the end of the name's line
    """

    name: str
    values: Sequence[float]
    note: str = ""
    faint: Sequence[float] = ()


def rows(key: str, title: str, described: str, bars: Sequence[Bar], longest: float) -> Element:
    """Bars from left to right under their names, the longest as wide as the figure; what is longer ends in an arrow."""
    parts: list[Element] = []
    height = TOP
    for bar in bars:
        parts += _row(bar, height, longest)
        height += ROW + (THICK + APART) * (len(bar.values) - 1)
    return picture(key, title, described, height, parts)


def columns(key: str, title: str, described: str, series: Sequence[dict[int, int]], across: str, down: str) -> Element:
    """Columns for bins whose upper bounds are powers of two; the first series is solid, the second an outline."""
    bounds = sorted({bound for one in series for bound in one})
    steps = [bound.bit_length() for bound in bounds]
    every = range(min(steps), max(steps) + 1)
    most = max(max(one.values()) for one in series if one)
    upright = Scale(0.0, most * 1.05, HEIGHT - 40, 26)
    left, wide = 46.0, (WIDTH - 8 - 46.0) / len(every)
    flat = Scale(0.0, float(len(every)), left, WIDTH - 8)
    parts = _upright(flat, upright, down)
    for index, one in enumerate(series):
        for bound, number in sorted(one.items()):
            x = left + wide * (bound.bit_length() - every.start)
            top = upright.at(number)
            kind = "bar ink-1" if index == 0 else "outline"
            told = node("title", f"{_bound(bound)}: {number:,}")
            parts.append(node("rect", told, class_=kind, x=x + 1, y=top, width=max(wide - 2, 1.0), height=upright.start - top))
    stride = -(-len(every) // 8)
    for place, step in enumerate(every):
        if place % stride == 0:
            label = _bound(1 << (step - 1))
            parts.append(node("text", label, class_="tick", x=left + wide * (place + 1), y=HEIGHT - 24, text_anchor="middle"))
    parts.append(node("text", across, class_="axis-title", x=(left + WIDTH - 8) / 2, y=HEIGHT - 40 + UNDER, text_anchor="middle"))
    return picture(key, title, described, HEIGHT, parts)


def _upright(flat: Scale, upright: Scale, title: str) -> list[Element]:
    """The upright axis, and the line at the bottom."""
    parts = [node("text", title, class_="axis-title", x=0, y=upright.end - 14)]
    ticks = upright.ticks()
    for tick, label in zip(ticks, tick_labels(ticks)):
        y = upright.at(tick)
        parts.append(node("path", class_="grid", d=f"M{flat.start:.1f} {y:.1f}H{flat.end:.1f}"))
        parts.append(node("text", label, class_="tick", x=flat.start - 6, y=y + 3.7, text_anchor="end"))
    return [*parts, node("path", class_="axis", d=f"M{flat.start:.1f} {upright.start:.1f}H{flat.end:.1f}")]


def _bound(bound: int) -> str:
    """An upper bound in bytes."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if bound >= 1 << power:
            return f"{bound >> power}\u202f{unit}"
    return f"{bound}\u202fB"


def _row(bar: Bar, top: float, longest: float) -> list[Element]:
    letters = int((WIDTH - len(bar.note) * LETTER) / LETTER) - 2
    label = shortened(bar.name, max(letters, 8))
    parts = [
        node("text", label, [] if label == bar.name else [node("title", bar.name)], class_="label strong", x=0, y=top + 11),
        node("text", bar.note, class_="label muted", x=WIDTH, y=top + 11, text_anchor="end"),
    ]
    for index, value in enumerate(bar.values):
        y = top + 16 + (THICK + APART) * index
        faint = bar.faint[index] if index < len(bar.faint) else 0.0
        parts += _bar(value, faint, longest, y, index + 1)
    return parts


def _bar(value: float, faint: float, longest: float, y: float, ink: int) -> list[Element]:
    room = WIDTH - 6
    solid, whole = (min(max(part / longest, 0.0), 1.0) * room if longest else 0.0 for part in (value, value + faint))
    parts = [node("rect", class_="lost", x=solid, y=y, width=whole - solid, height=THICK)] if whole > solid else []
    if solid:
        parts.append(node("rect", class_=f"bar ink-{ink}", x=0, y=y, width=max(solid, 0.8), height=THICK))
    if value > longest:
        parts.append(node("path", class_=f"arrow ink-{ink}", d=f"M{WIDTH:.1f} {y + THICK / 2:.1f}l-5 -3.5v7Z"))
    return parts
