"""Quality against cost: which arms no other beats in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llmkit.ablate.report.words import axis_of, mean_words, ordered
from llmkit.ablate.results import ArmResult, StudyResult
from llmkit.typeset.digits import quantity
from llmkit.typeset.frame import LETTER, WIDTH, Drawing, Point, Scale, axes, ink, path, picture, shortened
from llmkit.typeset.markup import node

HEIGHT = 300.0
LETTERS = 22
EQUAL = 0.02
"""Costs that differ by no more than this part are the same: arms are matched to within 1% of the baseline, on either side."""


NAMED = 12
"""Arms beyond which only the frontier and the baseline are named: there is no room for more."""


class Cost(NamedTuple):
    """What may be paid for quality."""

    key: str
    words: str
    unit: str
    of: Callable[[ArmResult], float | None]


COMPUTE = (
    Cost("flops", "training FLOPs per token", "", lambda arm: arm.flops_per_token.get("training")),
    Cost("parameters", "parameters", "", lambda arm: arm.parameters.get("total")),
)
MEMORY = (Cost("cache", "KV cache, bytes per token", "B", lambda arm: arm.kv_cache_bytes_per_token),)


class Spot(NamedTuple):
    """An arm in the figure."""

    arm: ArmResult
    place: int
    cost: float
    mean: float
    counts: bool
    """Whether it may lie on the frontier: what is confounded or unstable shows nothing of the sort."""


def draw(result: StudyResult) -> list[Drawing]:
    """A figure for the compute and one for the memory, of those in which the arms differ.

    Arms that are confounded or unstable are no reason for a figure, unless there is no other.
    """
    for all_count in (False, True):
        drawings = [drawing for costs in (COMPUTE, MEMORY) if (drawing := _first(result, costs, all_count)) is not None]
        if drawings:
            return drawings
    why = "The arms cost the same" if any(_spots(result, cost) for cost in (*COMPUTE, *MEMORY)) else "No costs were recorded"
    return [Drawing("pareto", "Quality against cost", None, f"{why}, so there is nothing to trade quality against.")]


def frontier(spots: Sequence[Spot], higher_is_better: bool) -> list[Spot]:
    """The arms that no other equals or beats in both cost and quality, from cheap to dear."""
    found: list[Spot] = []
    for spot in sorted(
        (spot for spot in spots if spot.counts), key=lambda spot: (spot.cost, -spot.mean if higher_is_better else spot.mean)
    ):
        if not found or (spot.mean > found[-1].mean if higher_is_better else spot.mean < found[-1].mean):
            found.append(spot)
    return found


def _first(result: StudyResult, costs: Sequence[Cost], all_count: bool) -> Drawing | None:
    for cost in costs:
        spots = _spots(result, cost)
        paid = [spot.cost for spot in spots if spot.counts or all_count]
        if len(paid) > 1 and max(paid) - min(paid) > EQUAL * max(map(abs, paid)):
            return _drawing(result, cost, spots)
    return None


def _spots(result: StudyResult, cost: Cost) -> list[Spot]:
    spots = []
    for index, arm in enumerate(ordered(result)):
        paid, mean = cost.of(arm), arm.judgement.mean
        if paid is not None and mean is not None:
            spots.append(Spot(arm, index, float(paid), mean, arm.judgement.verdict not in ("confounded", "unstable")))
    return spots


def _drawing(result: StudyResult, cost: Cost, spots: Sequence[Spot]) -> Drawing:
    key = f"pareto-{cost.key}"
    title = axis_of(result)
    down = Scale.around([end for spot in spots for end in _whisker(spot)], HEIGHT - 40, 26, margin=0.1)
    across = Scale.around([spot.cost for spot in spots], 46, WIDTH - 8, margin=0.14)
    parts = axes(across, down, cost.words, title)
    best = frontier(spots, result.higher_is_better)
    steps = _steps(best, across, down)
    if steps:
        parts.append(node("path", class_="frontier", d=path(steps)))
    for spot in spots:
        parts += _spot(spot, across, down)
    named = [spot for spot in spots if len(spots) <= NAMED or spot in best or spot.arm.name == result.baseline]
    parts += _labels(named, _taken(spots, steps, across, down), across, down)
    described = "; ".join(f"{spot.arm.name}: {quantity(spot.cost, cost.unit)}, {mean_words(spot.arm)}" for spot in spots)
    drawn = picture(key, f"{title} against {cost.words}", described, HEIGHT, parts)
    hollow = "" if all(spot.counts for spot in spots) else " Hollow: confounded or unstable, and no part of the frontier."
    unnamed = "" if len(named) == len(spots) else " Only the frontier and the baseline are named."
    way = "higher" if result.higher_is_better else "lower"
    caption = (
        f"Means with one standard deviation; {way} and further left is better. "
        f"The line joins the arms that no other beats in both.{hollow}{unnamed}"
    )
    return Drawing(key, f"Quality against {cost.words.partition(',')[0]}", drawn, caption)


def _whisker(spot: Spot) -> Point:
    deviation = spot.arm.judgement.deviation or 0.0
    return (spot.mean - deviation, spot.mean + deviation)


def _steps(spots: Sequence[Spot], across: Scale, down: Scale) -> list[Point]:
    """The corners of the frontier: what a cost buys, until the next arm."""
    if len(spots) < 2:
        return []
    steps = [(across.at(spots[0].cost), down.at(spots[0].mean))]
    for spot in spots[1:]:
        steps += [(across.at(spot.cost), steps[-1][1]), (across.at(spot.cost), down.at(spot.mean))]
    return steps


def _spot(spot: Spot, across: Scale, down: Scale) -> list[Element]:
    x, y = across.at(spot.cost), down.at(spot.mean)
    low, high = map(down.at, _whisker(spot))
    parts = [node("path", class_=f"whisker {ink(spot.place)}", d=path([(x, low), (x, high)]))] if low != high else []
    kind = "dot" if spot.counts else "hollow"
    return [*parts, node("circle", node("title", spot.arm.name), class_=f"{kind} {ink(spot.place)}", cx=x, cy=y, r=4)]


Box = tuple[float, float, float, float]


def _labels(named: Sequence[Spot], taken: Sequence[Box], across: Scale, down: Scale) -> list[Element]:
    """Names beside their points: the first place around each that is free, or the one that covers least. `taken` is what is drawn."""
    boxes = list(taken)
    parts: list[Element] = []
    for spot in named:
        x, y = across.at(spot.cost), down.at(spot.mean)
        label = shortened(spot.arm.name, LETTERS)
        box = min(_candidates(x, y, len(label) * LETTER, across, down), key=lambda box: sum(_shared(box, other) for other in boxes))
        boxes.append(box)
        if abs((box[1] + box[3]) / 2 - y) > 16:
            near = box[0] if box[0] > x else box[2] if box[2] < x else x
            parts.append(node("path", class_="leader", d=path([(x, y), (near, box[3] if box[3] < y else box[1])])))
        whole = [] if label == spot.arm.name else [node("title", spot.arm.name)]
        parts.append(node("text", label, whole, class_="label", x=box[0], y=box[3] - 3))
    return parts


def _taken(spots: Sequence[Spot], steps: Sequence[Point], across: Scale, down: Scale) -> list[Box]:
    """The ground under points, whiskers and the frontier."""
    boxes: list[Box] = []
    for spot in spots:
        x, y = across.at(spot.cost), down.at(spot.mean)
        low, high = map(down.at, _whisker(spot))
        boxes += [(x - 5, y - 5, x + 5, y + 5), (x - 1, high, x + 1, low)]
    boxes += [(min(x, to_x) - 2, min(y, to_y) - 2, max(x, to_x) + 2, max(y, to_y) + 2) for (x, y), (to_x, to_y) in pairwise(steps)]
    return boxes


def _candidates(x: float, y: float, width: float, across: Scale, down: Scale) -> list[Box]:
    """Places for a label around a point, nearest first, that are inside the frame."""
    offsets = sorted(product((8, -8 - width, -width / 2), range(-60, 61, 4)), key=lambda offset: (abs(offset[1]), offset[0] != 8))
    boxes = [(x + right, y + below - 7, x + right + width, y + below + 7) for right, below in offsets]
    inside = [box for box in boxes if box[0] >= across.start and box[2] <= WIDTH and box[1] >= down.end - 4 and box[3] <= down.start]
    return inside or boxes[:1]


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
