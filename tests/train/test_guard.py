"""What the spike detector finds and leaves alone, and that a saved one goes on as it would have."""

import json
import math
import random
import statistics
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.spec import SpikesSpec
from llmkit.train.guard import Guard, Level


def told(guard: Guard, losses: Iterable[float], norms: Iterable[float] | None = None) -> list[int]:
    """The steps that are found anomalous."""
    pairs = zip(losses, norms, strict=True) if norms is not None else ((loss, 1.0) for loss in losses)
    return [step for step, (loss, norm) in enumerate(pairs) if guard.look(step, loss, norm).anomaly is not None]


def noise(count: int, seed: int, *, mean: float = 3.0, deviation: float = 0.1) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(mean, deviation) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_falls_as_losses_do_raises_no_alarm(seed):
    source = random.Random(seed)
    losses = [2.5 + 7 * math.exp(-step / 300) + source.gauss(0, 0.1) for step in range(20_000)]
    norms = [0.5 * math.exp(source.gauss(0, 0.3)) for _ in range(20_000)]
    assert told(Guard(SpikesSpec()), losses, norms) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_jump_by_eight_deviations_is_found_in_its_step(seed):
    losses = noise(300, seed)
    losses[200] = 3.0 + 8 * 0.1 + 0.05
    assert told(Guard(SpikesSpec()), losses) == [200]


def test_the_rule_is_that_of_the_statistics_module_over_the_window_before():
    losses = noise(400, 1)
    losses[250], losses[300] = 4.1, 4.0
    guard, window, expected = Guard(SpikesSpec(deviations=3.0, window=50, minimum=20)), [], []
    for step, loss in enumerate(losses):
        if len(window) >= 20 and loss > statistics.fmean(window) + max(3 * statistics.pstdev(window), 0.03 * statistics.fmean(window)):
            expected.append(step)
        else:
            window = [*window, loss][-50:]
    assert {250, 300} <= set(expected)
    assert told(guard, losses) == expected


def test_a_spike_hides_no_other_one():
    losses = noise(400, 2)
    losses[200], losses[210] = 50.0, 4.0
    assert told(Guard(SpikesSpec()), losses) == [200, 210]
    inflated = statistics.fmean(losses[82:210]) + 6 * statistics.pstdev(losses[82:210])
    assert inflated > 4.0


def test_a_gradient_norm_of_three_times_the_usual_is_found_and_one_of_twice_is_not():
    norms = [math.exp(value) for value in noise(300, 3, mean=0.0)]
    norms[200], norms[250] = 2.0, 3.0
    assert told(Guard(SpikesSpec()), [3.0] * 300, norms) == [250]


def test_a_loss_that_is_constant_but_for_rounding_is_no_spike():
    assert told(Guard(SpikesSpec()), [2.0 + 1e-6 * (step % 7) for step in range(1000)]) == []
    assert told(Guard(SpikesSpec()), [0.0] * 500, [0.0] * 500) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_anomalous_from_the_first_step_on(value):
    for loss, norm, measure in ((value, 1.0, "loss"), (1.0, value, "grad_norm")):
        decision = Guard(SpikesSpec(policy="skip")).look(0, loss, norm)
        assert (decision.action, decision.anomaly.measure) == ("skip", measure)
        assert Guard(SpikesSpec()).look(0, loss, norm).action == "diverge"
        assert Guard(SpikesSpec(policy="off")).look(0, loss, norm).action == "diverge"


def test_a_step_that_the_loss_scaler_skips_is_no_anomaly_and_teaches_nothing():
    guard = Guard(SpikesSpec(policy="skip"), scaled=True)
    assert guard.look(0, 3.0, math.inf) == ("apply", None)
    assert len(guard.norm.values) == 0 and len(guard.loss.values) == 1
    assert guard.look(1, math.nan, math.inf).action == "skip"


def test_off_judges_nothing_that_is_a_number():
    guard = Guard(SpikesSpec(policy="off"))
    assert told(guard, [*noise(200, 4), 1e9]) == []


def test_skipping_stops_after_patience_and_the_loss_is_the_new_level():
    guard = Guard(SpikesSpec(policy="skip", patience=3, window=32, minimum=16))
    actions = [guard.look(step, loss, 1.0).action for step, loss in enumerate([*noise(50, 5), *noise(50, 6, mean=9.0)])]
    assert actions == ["apply"] * 50 + ["skip"] * 3 + ["apply"] * 47
    assert guard.found == 4 and guard.skipped == 3


def test_skipping_what_is_no_number_ends_after_patience():
    guard = Guard(SpikesSpec(policy="skip", patience=3))
    assert [guard.look(step, math.nan, 1.0).action for step in range(4)] == ["skip", "skip", "skip", "diverge"]


def test_going_back_leaves_out_the_batches_around_the_spike_and_all_others_come_in_order():
    guard = Guard(SpikesSpec(policy="rollback", margin=20, suspects=10))
    assert guard.look(100, math.nan, 1.0).action == "rollback"
    back = guard.go_back(100, 60, {})
    assert (back.spike, back.first, back.end, back.suspects) == (100, 96, 106, list(range(96, 106)))
    assert [guard.batch_of(step) for step in range(94, 99)] == [94, 95, 106, 107, 108]


def test_a_spike_that_recurs_leaves_out_twice_as_many_and_after_three_rollbacks_the_run_has_diverged():
    guard = Guard(SpikesSpec(policy="rollback", margin=20, suspects=10, rollbacks=3))
    widths = []
    for _ in range(3):
        assert guard.look(100, math.nan, 1.0).action == "rollback"
        back = guard.go_back(100, 60, {})
        widths.append(back.end - back.first)
    assert widths == [10, 20, 40]
    assert guard.look(100, math.nan, 1.0).action == "diverge"


def test_a_spike_at_another_place_counts_anew():
    guard = Guard(SpikesSpec(policy="rollback", margin=20, rollbacks=1))
    assert guard.look(100, math.nan, 1.0).action == "rollback"
    guard.go_back(100, 60, {})
    assert guard.look(120, math.nan, 1.0).action == "rollback"
    guard.go_back(120, 100, {})
    assert guard.look(139, math.nan, 1.0).action == "diverge"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=5))
def test_the_batches_of_the_steps_are_those_that_are_not_left_out_each_once(spikes):
    guard = Guard(SpikesSpec(policy="rollback", margin=1))
    for step, width in spikes:
        guard.spec = SpikesSpec(policy="rollback", suspects=width)
        guard.look(step, math.nan, 1.0)
        guard.here = 1
        guard.go_back(step, max(step - 50, 0), {})
    out = {batch for first, end in guard.left_out for batch in range(first, end)}
    expected = [batch for batch in range(1000) if batch not in out]
    assert [guard.batch_of(step) for step in range(len(expected))] == expected


@pytest.mark.parametrize(
    ("step", "checkpoints", "expected"),
    [(150, [50, 100, 130, 140], 130), (130, [50, 100, 120], 100), (15, [0, 10], 0), (105, [100, 90], 90), (5, [], None)],
)
def test_a_clean_checkpoint_is_the_latest_that_is_older_by_the_margin_else_the_oldest_there_is(step, checkpoints, expected):
    assert Guard(SpikesSpec(margin=20)).clean(step, checkpoints) == expected


def test_a_guard_that_was_saved_decides_bit_for_bit_as_one_that_was_not():
    losses, norms = noise(900, 7), [math.exp(value) for value in noise(900, 8, mean=0.0)]
    losses[400] = 9.0
    whole = Guard(SpikesSpec(policy="skip"))
    told(whole, losses, norms)
    half = Guard(SpikesSpec(policy="skip"))
    told(half, losses[:433], norms[:433])
    resumed = Guard(SpikesSpec(policy="skip"))
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    for step in range(433, 900):
        resumed.look(step, losses[step], norms[step])
    assert resumed.state_dict() == whole.state_dict()


def test_running_sums_do_not_drift():
    level = Level(SpikesSpec())
    values = [1e6, *noise(5000, 9)]
    for value in values:
        level.add(value)
    assert level.mean == pytest.approx(statistics.fmean(values[-128:]), rel=1e-12)
    assert level.deviation == pytest.approx(statistics.pstdev(values[-128:]), rel=1e-9)


def test_a_narrower_window_goes_on_with_the_latest_values_of_a_wider_one():
    wide, narrow = Level(SpikesSpec()), Level(SpikesSpec(window=64))
    for value in noise(200, 10):
        wide.add(value)
    narrow.load_state_dict(wide.state_dict())
    narrow.add(3.0)
    assert list(narrow.values) == [*list(wide.values)[-63:], 3.0]
    assert narrow.mean == pytest.approx(statistics.fmean(narrow.values), rel=1e-12)


def test_a_look_costs_microseconds():
    guard, losses = Guard(SpikesSpec()), noise(20_000, 11)
    began = time.process_time()
    told(guard, losses)
    assert (time.process_time() - began) / len(losses) < 50e-6


def test_a_rollback_without_checkpoints_is_refused_with_the_remedy():
    with pytest.raises(UserError, match="rollback needs checkpoints to go back to; give checkpoint_every"):
        llmkit.load_spec("recipe:tiny", overrides=["train.spikes.policy=rollback", "train.checkpoint_every=null"])


def test_a_window_that_never_fills_is_refused():
    with pytest.raises(ValidationError, match="minimum 65 is more than the window of 64"):
        SpikesSpec(window=64, minimum=65)
