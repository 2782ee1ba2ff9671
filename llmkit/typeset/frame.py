"""The frame of a figure: two axes with round ticks, and what is drawn between them. All in one user unit, about a pixel on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llmkit.typeset.digits import NARROW, PREFIXES, signed_fixed
from llmkit.typeset.markup import Child, node

Point = tuple[float, float]

WIDTH = 400.0
"""Of every figure. A phone shows it at about its own size, a page of paper two side by side."""

LETTER = 6.9
"""An upper bound of the mean width of a letter in a label, for what is placed by estimate."""

LINE = 13.5
"""From one line of labels to the next."""

UNDER = 33.0
"""From the axis at the bottom to its title."""

DASHES = (None, "6 3", "2 2.5", "9 3 2 3", "12 4", "4 2 1 2 1 2", "1 3")
"""What tells lines apart where colours do not: in print and to the colour-blind."""

COLOURS = 7
LARGE = [(3 * place, prefix) for place, prefix in enumerate(PREFIXES) if place][::-1]
"""Powers of ten and their prefixes, the largest first."""

OFF_SCALE = 4.0
"""Times the median reach beyond which something is left off a scale, since all else would be one point on it."""


class Drawing(NamedTuple):
    """A figure of the report. Without a picture, the caption says why there is none."""

    key: str
    title: str
    picture: Element | None
    caption: str


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, margin: float = 0.05) -> Scale:
        """A scale that holds the values, with a margin on both sides; wide enough to draw where they are all the same."""
        values = list(values)
        low, high = min(values), max(values)
        room = (high - low) * margin or abs(low) * margin or 0.5
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """The place of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the scale."""
        return self.low <= value <= self.high

    def ticks(self, least: int = 3) -> list[float]:
        """Round numbers on the scale: multiples of the coarsest 1, 2 or 5 times a power of ten of which there are enough."""
        power = math.floor(math.log10(self.high - self.low))
        for exponent, factor in ((power, 5), (power, 2), (power, 1), (power - 1, 5), (power - 1, 2), (power - 1, 1)):
            step = factor * 10.0**exponent
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first + 1 >= least:
                break
        return [round(index * step, -exponent) + 0.0 for index in range(first, last + 1)]


def tick_labels(ticks: Sequence[float], sign: bool = False) -> list[str]:
    """The ticks as text, all with as many decimals as tell them apart."""
    furthest = max(map(abs, ticks), default=0.0)
    unit, prefix = next(((10.0**power, prefix) for power, prefix in LARGE if furthest >= 10.0**power), (1.0, ""))
    step = min((b - a for a, b in pairwise(ticks)), default=unit) / unit
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [signed_fixed(tick / unit, decimals, sign) + (NARROW + prefix if prefix and tick else "") for tick in ticks]


def typical(reaches: Iterable[float]) -> float:
    """The largest reach that a scale should hold: all of them, unless one is many times the median."""
    reaches = [reach for reach in reaches if reach > 0]
    if not reaches:
        return 0.0
    bound = OFF_SCALE * median(reaches)
    return max(reach for reach in reaches if reach <= bound)


def spaced(places: Sequence[float], low: float, high: float, gap: float = LINE) -> list[float]:
    """Places as near as possible to those wished for, in the same order, at least a gap apart and within the bounds where there is room."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    settled: list[float] = []
    for index in order:
        settled.append(max(places[index], settled[-1] + gap if settled else low))
    bound = high
    for rank in range(len(settled) - 1, -1, -1):
        settled[rank] = min(settled[rank], bound)
        bound = settled[rank] - gap
    found = [0.0] * len(places)
    for rank, index in enumerate(order):
        found[index] = settled[rank]
    return found


def shortened(name: str, letters: int) -> str:
    """A name that fits. A long one loses its middle, since names differ at either end."""
    if len(name) <= letters:
        return name
    kept = letters - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def ink(index: int) -> str:
    """The class of a line's colour; 0 is the baseline's, which is that of the text."""
    return f"ink-{0 if index == 0 else (index - 1) % COLOURS + 1}"


def dash(index: int) -> str | None:
    """A line's dash. With more lines than colours, a colour comes again with another dash."""
    return DASHES[(index + (index - 1) // COLOURS if index else 0) % len(DASHES)]


def path(points: Sequence[Point]) -> str:
    """The commands of a line through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def axes(across: Scale, down: Scale, across_title: str, down_title: str) -> list[Element]:
    """Both axes: hairlines at the ticks of the upright one, ticks below, titles with units. `down` starts at the bottom."""
    bottom, top = down.start, down.end
    parts = [node("text", down_title, class_="axis-title", x=0, y=top - 14)]
    ticks = down.ticks()
    for tick, label in zip(ticks, tick_labels(ticks)):
        y = down.at(tick)
        parts.append(node("path", class_="grid", d=f"M{across.start:.1f} {y:.1f}H{across.end:.1f}"))
        parts.append(node("text", label, class_="tick", x=across.start - 6, y=y + 3.7, text_anchor="end"))
    return [*parts, *across_axis(across, bottom, across_title)]


def across_axis(across: Scale, bottom: float, title: str, sign: bool = False) -> list[Element]:
    """The axis at the bottom."""
    ticks = across.ticks()
    parts = [node("path", class_="axis", d=f"M{across.start:.1f} {bottom:.1f}H{across.end:.1f}")]
    for tick, label in zip(ticks, tick_labels(ticks, sign)):
        x = across.at(tick)
        parts.append(node("path", class_="axis", d=f"M{x:.1f} {bottom:.1f}v4"))
        parts.append(node("text", label, class_="tick", x=x, y=bottom + 16, text_anchor="middle"))
    parts.append(node("text", title, class_="axis-title", x=(across.start + across.end) / 2, y=bottom + UNDER, text_anchor="middle"))
    return parts


def picture(key: str, title: str, description: str, height: float, *parts: Child | Iterable[Child]) -> Element:
    """The drawing as a whole, with a title and a description for those who do not see it."""
    return node(
        "svg",
        node("title", title, id=f"{key}-title"),
        node("desc", description, id=f"{key}-description"),
        *parts,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-description",
    )
