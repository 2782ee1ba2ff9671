"""Every schedule: its laws on all runs, and its values against independent implementations."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup, get_wsd_schedule

from llmkit.core.interfaces.schedule import Schedule
from llmkit.plugins.schedules.components import llmkit_components

COMPONENTS = {component.name: component for component in llmkit_components()}
DECAYING = sorted(set(COMPONENTS) - {"constant"})


def schedule(name: str, **params: object) -> Schedule:
    component = COMPONENTS[name]
    made: Schedule = component.resolve()(component.params.model_validate(params))
    return made


def rising_steps(warmup: float, total: int) -> int:
    """What the parameter's description promises."""
    if warmup >= 1:
        return min(total, int(warmup))
    return max(1, round(warmup * total)) if warmup > 0 else 0


totals = st.integers(1, 400)
durations = st.one_of(st.floats(0, 0.99), st.integers(1, 500))
floors = st.floats(0, 1)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(COMPONENTS)), total=totals, warmup=durations)
def test_no_step_has_rate_zero_none_exceeds_the_peak_and_the_warmup_rises(name: str, total: int, warmup: float) -> None:
    factor = schedule(name, warmup=warmup)
    factors = [factor(step, total) for step in range(total)]
    assert all(0 < value <= 1 for value in factors)
    rising = rising_steps(warmup, total)
    assert all(earlier < later for earlier, later in pairwise(factors[: rising + 1]))
    if rising < total:
        assert factors[rising] == 1


@settings(max_examples=60)
@given(name=st.sampled_from(DECAYING), total=totals, warmup=st.floats(0, 0.5), floor=floors)
def test_after_the_peak_the_factor_only_falls_and_the_run_ends_at_the_floor(name: str, total: int, warmup: float, floor: float) -> None:
    factor = schedule(name, warmup=warmup, floor=floor)
    after = [factor(step, total) for step in range(rising_steps(warmup, total), total + 1)]
    assert all(earlier >= later - 1e-12 for earlier, later in pairwise(after))
    assert after[-1] == pytest.approx(floor)
    assert min(after) >= floor - 1e-12


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_a_part_of_the_run_and_that_many_steps_are_the_same(name: str) -> None:
    part, steps = schedule(name, warmup=0.2), schedule(name, warmup=10)
    assert [part(step, 50) for step in range(50)] == [steps(step, 50) for step in range(50)]


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_a_warmup_longer_than_the_run_is_the_beginning_of_a_rise(name: str) -> None:
    factor = schedule(name, warmup=80)
    values = [factor(step, 40) for step in range(40)]
    assert values == sorted(values) and values[-1] == pytest.approx(40 / 41)


def reference_rates(make: object, **arguments: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, **arguments)  # type: ignore[operator]
    rates = []
    for _ in range(60):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("name", "make"), [("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup)])
def test_after_the_warmup_cosine_and_linear_are_those_of_transformers(name: str, make: object) -> None:
    ours = schedule(name, warmup=12)
    rates = reference_rates(make, num_warmup_steps=12, num_training_steps=60)
    assert rates[12:] == pytest.approx([ours(step, 60) for step in range(12, 60)], abs=1e-12)
    # In the warm-up they differ on purpose: transformers' first step has rate 0 and does nothing.
    assert rates[0] == 0 and ours(0, 60) == pytest.approx(1 / 13)


def test_wsd_with_a_linear_fall_is_that_of_transformers_after_the_warmup() -> None:
    ours = schedule("wsd", warmup=10, decay=20, shape="linear")
    rates = reference_rates(
        get_wsd_schedule, num_warmup_steps=10, num_stable_steps=30, num_decay_steps=20, decay_type="linear", warmup_type="linear"
    )
    assert rates[10:] == pytest.approx([ours(step, 60) for step in range(10, 60)], abs=1e-12)


def test_the_cosine_is_nanogpts_whole_curve() -> None:
    def nanogpt(it: int, *, warmup: int, total: int, floor: float) -> float:
        if it < warmup:
            return (it + 1) / (warmup + 1)
        ratio = (it - warmup) / (total - warmup)
        return floor + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (1 - floor)

    ours = schedule("cosine", warmup=7, floor=0.1)
    assert [ours(step, 50) for step in range(50)] == pytest.approx([nanogpt(it, warmup=7, total=50, floor=0.1) for it in range(50)])


def test_wsd_falls_by_one_minus_the_square_root_over_its_last_part_only() -> None:
    factor = schedule("wsd", warmup=0.1, decay=0.2)
    assert all(factor(step, 100) == 1 for step in range(10, 81))
    assert [factor(80 + step, 100) for step in (5, 10, 19)] == pytest.approx([1 - math.sqrt(p) for p in (0.25, 0.5, 0.95)])


def test_the_plateau_of_wsd_does_not_depend_on_how_long_the_run_is() -> None:
    factor = schedule("wsd", warmup=20, decay=30)
    assert [factor(step, 100) for step in range(70)] == [factor(step, 1000) for step in range(70)]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cosine", {"warmup": 2.5}, "2.5 is neither a part of the run .* nor a whole number of steps"),
        ("cosine", {"warmup": -1}, "greater than or equal to 0"),
        ("linear", {"floor": 1.5}, "less than or equal to 1"),
        ("wsd", {"shape": "cube"}, "'linear' or 'sqrt'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        schedule(name, **params)
