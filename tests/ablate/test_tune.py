"""Tuning: every arm has as many trials as any other, and a best at the edge has the range extended."""

import pytest
from small_study import Listening, small_spec, small_study

from llmkit.ablate.run import run_study
from llmkit.ablate.study import load_study
from llmkit.ablate.tune import EXTENSIONS, Search, further, halfway, tune
from llmkit.runtime import catalog, load_spec

LR = "train.optimizer.lr"


@pytest.fixture
def search(tmp_path):
    def make(arm="a", grid=None, higher_is_better=False):
        return Search(arm, load_spec(small_spec(tmp_path)), grid or {LR: (1e-3, 2e-3, 4e-3)}, catalog(), higher_is_better=higher_is_better)

    return make


def by(cost):
    """Runs trials by a cost of their settings, on two seeds that hardly differ."""

    def run(trials):
        for trial in trials:
            found = cost(trial)
            trial.values = {10_000: found, 10_001: None if found is None else found + 1e-6}

    return run


def test_the_best_within_the_range_is_chosen_with_no_trial_more(search):
    one = search()
    tune([one], by(lambda trial: abs(trial.settings[LR] - 2e-3)))
    assert one.best.settings == {LR: 2e-3} and len(one.trials) == 3 and not one.at_edge
    assert one.chosen.train.optimizer.params.lr == 2e-3


def test_a_best_at_the_edge_extends_the_range_by_its_ratio_until_it_lies_within(search):
    one = search()
    tune([one], by(lambda trial: abs(trial.settings[LR] - 8e-3)))
    assert [trial.settings[LR] for trial in one.trials] == [1e-3, 2e-3, 4e-3, 8e-3, 16e-3]
    assert one.best.settings == {LR: 8e-3} and not one.at_edge


def test_a_range_is_not_extended_for_ever_and_says_so(search):
    one = search()
    tune([one], by(lambda trial: trial.settings[LR]))
    assert len(one.trials) == 3 + EXTENSIONS and one.at_edge
    assert one.best.settings[LR] == pytest.approx(1e-3 / 2**EXTENSIONS)


def test_every_arm_has_as_many_trials_as_the_one_whose_range_was_extended(search):
    edge, inside = search("edge"), search("inside")
    tune([edge, inside], by(lambda trial: abs(trial.settings[LR] - (8e-3 if trial.arm == "edge" else 2.2e-3))))
    assert len(edge.trials) == len(inside.trials) == 5
    extra = [trial.settings[LR] for trial in inside.trials[3:]]
    assert all(1e-3 < value < 4e-3 for value in extra) and len(set(extra)) == 2


def test_a_setting_that_failed_on_one_seed_is_not_the_best_and_without_any_the_arm_keeps_its_own(search):
    one = search()
    tune([one], by(lambda trial: None if trial.settings[LR] < 4e-3 else 1.0))
    assert one.best.settings[LR] >= 4e-3
    lost = search()
    tune([lost], by(lambda trial: None))
    assert lost.best is None and lost.chosen == lost.spec and not lost.at_edge


def test_higher_may_be_better(search):
    one = search(higher_is_better=True)
    tune([one], by(lambda trial: -abs(trial.settings[LR] - 2e-3)))
    assert one.best.settings == {LR: 2e-3}


def test_two_addresses_are_tried_in_every_combination_and_extended_one_at_a_time(search):
    decay = "train.optimizer.weight_decay"
    one = search(grid={LR: (1e-3, 2e-3, 4e-3), decay: (0.1, 0.2)})
    tune([one], by(lambda trial: abs(trial.settings[LR] - 2e-3) + abs(trial.settings[decay] - 0.4)))
    assert len(one.trials) == 6 + 2 and one.best.settings == {LR: 2e-3, decay: 0.4} and not one.at_edge


def test_a_value_that_no_component_takes_ends_the_range(search):
    one = search(grid={"train.schedule.warmup": (0.5, 0.9)})
    tune([one], by(lambda trial: -trial.settings["train.schedule.warmup"]))
    assert all(trial.settings["train.schedule.warmup"] <= 1 for trial in one.trials)


@pytest.mark.parametrize(
    ("inner", "edge", "found"),
    [(2e-3, 4e-3, 8e-3), (2e-3, 1e-3, 5e-4), (0.0, 0.1, 0.2), (8, 4, 2), (2, 1, None), (1, 3, 9), (-1.0, 1.0, 3.0)],
)
def test_one_value_beyond_the_edge_follows_the_ratio_and_whole_numbers_stay_whole(inner, edge, found):
    assert further(inner, edge) == (None if found is None else pytest.approx(found))


@pytest.mark.parametrize(("one", "other", "found"), [(1e-3, 4e-3, 2e-3), (2, 8, 4), (1, 2, None), (0.0, 1.0, 0.5)])
def test_half_way_is_the_geometric_mean_where_there_is_one(one, other, found):
    assert halfway(one, other) == (None if found is None else pytest.approx(found))


def test_a_tuned_study_shows_what_was_tried_what_was_chosen_and_the_fixed_figures(tmp_path):
    study = load_study(small_study(tmp_path, tune={LR: [3e-3, 6e-3, 1.2e-2]}, tune_seeds=1))
    listening = Listening()
    result = run_study(study, tmp_path / "study", workers=1, reporter=listening)
    for arm in result.arms:
        tuned = arm.tuned
        assert len({len(other.tuned.trials) for other in result.arms}) == 1 and len(tuned.trials) >= 3
        assert {seed for trial in tuned.trials for seed in trial["values"]} == {"10000"}
        best = min(tuned.trials, key=lambda trial: trial["mean"])
        assert tuned.chosen == best["settings"]
        assert tuned.fixed is not None and tuned.fixed.mean is not None
        assert {cell.seed for cell in arm.cells} == {0, 1}
        assert f"lr: {tuned.chosen[LR]}" in (tmp_path / "study" / arm.cells[0].directory / "spec.yaml").read_text()
    assert len([text for text in listening.said if text.startswith("tuned ")]) == 2
    ran = len(listening.cells)
    again = Listening()
    assert run_study(study, tmp_path / "study", workers=1, reporter=again).arms == result.arms
    assert ran > 8 and again.cells == []
