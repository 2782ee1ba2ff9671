"""The laws of every figure: round ticks, everything finite and inside the frame, and a sentence where there is nothing to draw."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree.ElementTree import Element

import numpy as np
import pytest
import report_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import alone, judged

from llmkit.ablate.report import curves, paired, pareto
from llmkit.ablate.report.frame import WIDTH, Drawing, Scale, dash, ink, spaced, tick_labels, typical
from llmkit.ablate.results import ArmResult, Cell, Judgement, StudyResult

STUDIES = ("whole", "sequential", "table_only", "baseline_only", "nothing_yet", "hostile", "many")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf")
values = st.floats(-1e6, 1e6, allow_subnormal=False)


def drawings(result: StudyResult) -> list[Drawing]:
    return [*curves.draw(result), *paired.draw(result), *pareto.draw(result)]


def test_pictures_of_a_whole_study_are_all_there() -> None:
    drawn = drawings(report_examples.whole())
    assert [drawing.key for drawing in drawn] == ["curves", "ends", "paired", "pareto-cache"]
    assert all(drawing.picture is not None for drawing in drawn)


@pytest.mark.parametrize("name", STUDIES)
def test_everything_drawn_is_finite_and_lies_in_the_picture(name: str) -> None:
    for drawing in drawings(getattr(report_examples, name)()):
        if drawing.picture is not None:
            height = float(drawing.picture.get("viewBox", "").split()[3])
            for x, y in points(drawing.picture):
                assert -1 <= x <= WIDTH + 1 and -1 <= y <= height + 1, (drawing.key, x, y)


@pytest.mark.parametrize("name", STUDIES)
def test_a_figure_without_data_is_a_sentence(name: str) -> None:
    for drawing in drawings(getattr(report_examples, name)()):
        assert drawing.caption.endswith(".") and drawing.title


def test_a_mean_is_drawn_where_its_axis_says() -> None:
    result = report_examples.whole()
    for drawing in pareto.draw(result):
        assert drawing.picture is not None
        ticks = {
            float(text.text.replace("\u2212", "-")): float(text.get("y", "")) - 3.7
            for text in drawing.picture.iter("text")
            if text.get("class") == "tick" and text.get("text-anchor") == "end" and text.text
        }
        (low, bottom), *_, (high, top) = sorted(ticks.items())
        dots = list(drawing.picture.iter("circle"))
        for dot, arm in zip(dots, result.arms, strict=True):
            read = low + (high - low) * (float(dot.get("cy", "")) - bottom) / (top - bottom)
            assert read == pytest.approx(arm.judgement.mean, abs=(high - low) * 0.005)


def test_each_seed_is_a_dot_at_its_difference() -> None:
    (drawing,) = paired.draw(report_examples.whole())
    assert drawing.picture is not None
    told = [dot.findtext("title") for dot in drawing.picture.iter("circle")]
    assert len(told) == sum(len(arm.judgement.differences) for arm in report_examples.whole().arms)


def test_an_arm_far_away_does_not_flatten_the_others() -> None:
    study = report_examples.whole()
    base = {cell.seed: cell.value for cell in study.arms[0].cells if cell.value is not None}
    far = {seed: value + 3.0 + 0.001 * seed for seed, value in base.items()}
    away = study.arms[2].model_copy(update={"judgement": judged("mqa/rmsnorm", far, base, "worse", "far")})
    result = study.model_copy(update={"arms": [*study.arms[:2], away, *study.arms[3:]]})
    (drawing,) = paired.draw(result)
    assert "off this scale (mqa/rmsnorm +3.00" in drawing.caption
    assert drawing.picture is not None
    assert len([part for part in drawing.picture.iter("path") if "arrow" in part.get("class", "")]) == 5


def test_the_frontier_holds_exactly_the_arms_that_no_other_beats() -> None:
    spots = [
        pareto.Spot(ArmResult(name=str(place), judgement=Judgement(arm=str(place), seeds=[])), place, cost, mean, place != 5)
        for place, (cost, mean) in enumerate([(1, 5), (2, 3), (2, 4), (3, 3), (4, 1), (0.5, 0)])
    ]
    assert [spot.place for spot in pareto.frontier(spots, higher_is_better=False)] == [0, 1, 4]
    assert [spot.place for spot in pareto.frontier(spots, higher_is_better=True)] == [0]


def test_of_many_arms_only_the_frontier_and_the_baseline_are_named() -> None:
    (drawing,) = pareto.draw(report_examples.many())
    assert drawing.picture is not None and drawing.caption.endswith("Only the frontier and the baseline are named.")
    named = [text.text for text in drawing.picture.iter("text") if text.get("class") == "label"]
    assert "baseline" in named and 2 <= len(named) < 12
    assert len(list(drawing.picture.iter("circle"))) == 24


@given(values, values)
def test_ticks_are_round_and_on_the_scale(one: float, other: float) -> None:
    scale = Scale.around([one, other], 0, 300)
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 12
    assert all(scale.low - 1e-9 * abs(scale.low) <= tick <= scale.high + 1e-9 * abs(scale.high) for tick in ticks)
    step = ticks[1] - ticks[0]
    assert f"{step:.0e}"[0] in "125"
    assert all(math.isclose(b - a, step, rel_tol=1e-6, abs_tol=1e-9 * max(abs(a), abs(b))) for a, b in pairwise(ticks))
    assert len(set(tick_labels(ticks))) == len(ticks)


@given(st.lists(st.floats(20, 260), min_size=1, max_size=15))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    found = spaced(places, 20, 260, gap=13)
    order = sorted(range(len(places)), key=lambda index: places[index])
    assert all(found[b] - found[a] >= 13 - 1e-9 for a, b in pairwise(order))
    assert all(20 - 1e-9 <= place <= 260 + 1e-9 for place in found)


def test_thirty_five_arms_are_told_apart_by_colour_and_dash() -> None:
    assert len({(ink(place), dash(place)) for place in range(1, 36)}) == 35
    assert len({dash(place) for place in range(1, 8)}) == 7, "in print, dashes alone must do"


def test_a_scale_leaves_out_only_what_is_many_times_the_median() -> None:
    assert typical([1.0, 1.1, 0.9, 50.0]) == 1.1
    assert typical([1.0, 2.0, 3.0]) == 3.0
    assert typical([0.0]) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_data_make_a_figure_fail(data: st.DataObject) -> None:
    result = data.draw(studies())
    for drawing in drawings(result):
        if drawing.picture is not None:
            height = float(drawing.picture.get("viewBox", "").split()[3])
            assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= height + 1 for x, y in points(drawing.picture)), drawing.key


@st.composite
def studies(draw: st.DrawFn) -> StudyResult:
    """Studies of any size and any values: equal ones, one point, none, runs that end anywhere."""
    seeds = list(range(draw(st.integers(2, 4))))
    value = st.sampled_from([0.0, 1.0, 1.0, -3.5, 1e-9, 2.0134, 1e6]) | values
    base = {seed: draw(value) for seed in seeds}
    arms = []
    for place in range(draw(st.integers(1, 5))):
        name = f"arm{place}"
        finals = base if place == 0 else {seed: draw(value) for seed in seeds}
        ran = []
        for seed in seeds:
            curve = draw(st.lists(st.tuples(st.integers(1, 1000), value), max_size=5, unique_by=lambda point: point[0]).map(sorted))
            ending = draw(st.sampled_from(["finished", "finished", "diverged", "crashed", "missing"]))
            ran.append(Cell(arm=name, seed=seed, key=f"{place}-{seed}", ending=ending, curve=curve))
        found = alone(name, finals) if place == 0 else judged(name, finals, base, draw(st.sampled_from([None, "better", "unstable"])), "")
        cost = draw(st.sampled_from([{}, {"total": 100}, {"total": 100 + place}, {"total": 100 * (place + 1)}]))
        with np.errstate(all="ignore"):
            arms.append(ArmResult(name=name, parameters=cost, cells=ran, judgement=found))
    return StudyResult(study="any", hash="0", baseline="arm0", metric="m", equivalence=draw(st.sampled_from([None, 0.1])), arms=arms)


def points(picture: Element) -> list[tuple[float, float]]:
    """All places that the drawing names; of relative steps, those that they lead to."""
    found = []
    for part in picture.iter():
        if part.tag in ("circle", "text"):
            x, y = ("cx", "cy") if part.tag == "circle" else ("x", "y")
            found.append((float(part.get(x, "nan")), float(part.get(y, "nan"))))
        if part.tag == "rect":
            x, y, width, height = (float(part.get(key, "nan")) for key in ("x", "y", "width", "height"))
            found += [(x, y), (x + width, y + height)]
            assert width >= 0 and height >= 0
        if part.tag == "path":
            found += walked(part.get("d", ""))
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in found)
    return found


def walked(commands: str) -> list[tuple[float, float]]:
    x = y = 0.0
    found = []
    for command, rest in re.findall(r"([MLHVlvm])([^MLHVlvmZ]*)", commands):
        numbers = [float(number) for number in NUMBER.findall(rest)]
        if command in "HVv":
            for number in numbers:
                x, y = (number, y) if command == "H" else (x, number) if command == "V" else (x, y + number)
                found.append((x, y))
            continue
        for right, down in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = (x + right, y + down) if command in "lm" else (right, down)
            found.append((x, y))
    return found
