"""A/A calibration: arms that differ in nothing but chance."""

import json

import pytest
import torch
from scipy.stats import binom
from small_study import small_study

import llmkit
from llmkit.ablate.null import APART, calibration, null_study, run_null, salted
from llmkit.ablate.plan import make_plan
from llmkit.ablate.results import ArmResult, Cell, Judgement, StudyResult
from llmkit.ablate.study import load_study
from llmkit.core.errors import UserError
from llmkit.core.filled import differences


def result_of(values: dict[str, list[float]], verdicts: dict[str, str] | None = None) -> StudyResult:
    arms = [
        ArmResult(
            name=name,
            cells=[Cell(arm=name, seed=seed, key=f"{name}{seed}", ending="finished", value=value) for seed, value in enumerate(found)],
            judgement=Judgement(arm=name, seeds=list(range(len(found))), verdict=(verdicts or {}).get(name)),
        )
        for name, found in values.items()
    ]
    return StudyResult(study="null", hash="0", baseline=arms[0].name, metric="val_loss", arms=arms)


@pytest.mark.parametrize(("salt", "streams"), [("init", {"init_seed"}), ("data", {"data_seed"}), ("both", {"init_seed", "data_seed"})])
def test_the_arms_are_the_baseline_but_for_their_salt(tmp_path, salt, streams):
    study = null_study(load_study(small_study(tmp_path)), 4, salt)
    plan = make_plan(study)
    assert len(plan.arms) == 4 and not any(arm.confounded for arm in plan.arms)
    baseline = plan.baseline.spec
    assert baseline.model.block.norm.type == "rmsnorm"
    for arm in plan.arms[1:]:
        assert {address for address, _, _ in differences(baseline, arm.spec)} == {f"train.{stream}" for stream in streams}


def test_a_salt_is_another_at_every_seed_so_that_no_arm_differs_for_good(tmp_path):
    plan = make_plan(null_study(load_study(small_study(tmp_path)), 4, "init"))
    cells = {(arm.name, seed): salted(arm.name, arm.spec, seed) for arm in plan.arms for seed in (0, 1)}
    assert [spec.init_seed for spec in cells.values()] == [0, 1, APART, APART + 1, 2 * APART, 2 * APART + 1, 3 * APART, 3 * APART + 1]
    assert [spec.data_seed for spec in cells.values()] == [0, 1] * 4
    weights = [llmkit.build(spec).embedding.weight for spec in cells.values()]
    assert all(not torch.equal(one, other) for index, one in enumerate(weights) for other in weights[:index])


def test_pairs_share_no_run_and_false_ones_are_counted_against_the_binomial_bound():
    same = [1.0, 1.1, 0.9, 1.05]
    apart = [5.0, 5.1, 4.9, 5.0501]
    near = [1.01, 1.08, 0.92, 1.04]
    values = {"a": same, "b": apart, "c": same, "d": near, "e": same, "f": apart, "g": same}
    found = calibration(result_of(values, {"b": "worse"}), "init", 0.8)
    assert (found.pairs, found.false_pairs, found.false_arms, found.arms) == (3, 2, ["b"], 7)
    assert found.most == binom.ppf(0.95, 3, 0.05) and found.p == pytest.approx(3 * 0.05**2 * 0.95 + 0.05**3)
    assert not found.holds and "more often than chance" in found.words
    assert found.noise > 0


def test_a_pair_of_which_a_run_was_lost_is_no_comparison():
    same = [1.0, 1.1, 0.9, 1.05]
    result = result_of({"a": same, "b": [1.01, 1.08, 0.92, 1.04], "c": same, "d": [1.02, 1.09, 0.9, None]})
    assert calibration(result, "init", 0.8).pairs == 1


def test_a_calibration_runs_and_leaves_its_figures(tmp_path):
    study = load_study(small_study(tmp_path, seeds=3))
    result, found = run_null(study, tmp_path / "null", arms=4, workers=1)
    assert all(cell.ending == "finished" for arm in result.arms for cell in arm.cells)
    assert len({cell.value for arm in result.arms for cell in arm.cells}) == 12
    assert found.pairs == 2 and found.noise > 0
    assert json.loads((tmp_path / "null" / "null.json").read_text())["noise"] == found.noise
    again, figures = run_null(study, tmp_path / "null", arms=4, workers=1)
    assert again.arms == result.arms and figures == found and again.amendments == []


@pytest.mark.parametrize(("arms", "salt", "words"), [(3, "init", "--arms 3"), (4, "salty", "--salt 'salty'")])
def test_what_cannot_be_calibrated_is_refused(tmp_path, arms, salt, words):
    with pytest.raises(UserError, match=words):
        null_study(load_study(small_study(tmp_path)), arms, salt)
