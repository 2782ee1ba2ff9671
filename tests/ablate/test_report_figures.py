"""The laws of every figure: round ticks, everything finite and inside the frame, and a sentence where there is nothing to draw."""

from __future__ import annotations

import numpy as np
import pytest
import report_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import alone, judged
from report_pages import points

from llmkit.ablate.report import curves, paired, pareto
from llmkit.ablate.results import ArmResult, Cell, Judgement, StudyResult
from llmkit.typeset.frame import WIDTH, Drawing

STUDIES = ("whole", "sequential", "table_only", "baseline_only", "nothing_yet", "hostile", "many")
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
