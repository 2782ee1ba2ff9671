"""A plan tells all that a study is going to do, and trains nothing for it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit.ablate.plan import initial_excess, make_plan, optimizer_groups, runs
from llmkit.ablate.probe import estimate
from llmkit.ablate.study import load_study
from llmkit.core.compose import study_names
from llmkit.model.count import account
from llmkit.runtime import RECIPES, load_spec

BASE: dict[str, Any] = {
    "tokenizer": "bytes",
    "model": {
        "d_model": 32,
        "n_layers": 2,
        "max_seq_len": 32,
        "block": {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 64}},
    },
    "train": {"steps": 10, "batch_size": 4},
}
STUDY: dict[str, Any] = {
    "name": "s",
    "extends": BASE,
    "axes": {"attention": {"mha": {}, "mqa": {"model.block.attention": {"type": "mqa", "n_heads": 4}}}},
    "baseline": "mha",
    "seeds": 3,
}


def test_a_plan_counts_what_build_counts() -> None:
    plan = make_plan(load_study({**STUDY, "match": "params"}))
    for arm in plan.arms:
        counted = account(arm.spec)
        assert arm.parameters == vars(counted.parameters) and arm.flops_per_token == vars(counted.flops_per_token)
        assert arm.kv_cache_bytes_per_token == counted.kv_cache_bytes_per_token
        assert arm.tokens == 10 * 4 * 32
    assert plan.arm("mqa").kv_cache_bytes_per_token * 4 == plan.baseline.kv_cache_bytes_per_token


def test_what_was_turned_is_a_derived_difference_and_is_told_in_words() -> None:
    arm = make_plan(load_study({**STUDY, "match": "params"})).arm("mqa")
    turned = arm.spec.model.block_at(0).ffn.params.d_ff
    assert arm.matched is not None and arm.matched.startswith(f"d_ff 64 -> {turned}: {arm.parameters['total']:,} parameters, ")
    assert {one.address: one.derived for one in arm.differences} == {"model.block.attention.type": False, "model.block.ffn.d_ff": True}


def test_a_confounded_study_is_called_so_before_anything_trains() -> None:
    plan = make_plan(load_study(STUDY))
    assert plan.arm("mqa").confounded and not plan.baseline.confounded
    assert any(text.startswith("confounded") and text.endswith(": mqa") for text in plan.warnings)


def test_runs_count_every_seed_and_every_trial() -> None:
    tune = {"train.optimizer.lr": [1e-3, 2e-3, 4e-3], "train.optimizer.weight_decay": [0.0, 0.1]}
    assert runs(load_study(STUDY)) == 6
    assert runs(load_study({**STUDY, "tune": tune, "tune_seeds": 2})) == 6 + 2 * 6 * 2
    assert runs(load_study({**STUDY, "tune": tune, "tune_seeds": 2, "tune_arms": ["mqa"]})) == 6 + 6 * 2


def test_a_schedule_that_does_not_decay_and_a_single_seed_are_warned_of() -> None:
    plan = make_plan(load_study({**STUDY, "seeds": 1, "match": "params"}, ["train.schedule=constant"]))
    assert ["does not decay" in plan.warnings[0], "one seed" in plan.warnings[1]] == [True, True]
    assert make_plan(load_study({**STUDY, "match": "params"})).warnings == ()


def test_the_document_is_json_and_holds_every_arm() -> None:
    plan = make_plan(load_study({**STUDY, "match": "params"}))
    document = json.loads(json.dumps(plan.document(), allow_nan=False))
    assert [arm["name"] for arm in document["arms"]] == ["mha", "mqa"]
    assert document["hash"] == plan.study.hash and document["runs"] == 6 and document["estimate"] is None


def test_groups_are_those_of_the_optimizer_that_trains() -> None:
    groups = optimizer_groups(load_spec(BASE, ["train.optimizer={type: adamw, lr: 2e-3, weight_decay: 0.3, lr_by_role: {vector: 1e-2}}"]))
    assert groups["embedding.weight"] == (0.0, 2e-3)
    assert groups["blocks.0.attention.output.weight"] == (0.3, 2e-3)
    assert groups["norm.weight"] == (0.0, 1e-2)


def test_an_untrained_model_with_small_weights_has_no_idea() -> None:
    assert abs(initial_excess(load_spec(BASE))) < 0.05
    # Logits that are normal with deviation s cost s^2 / 2 nats above ln V.
    spec = load_spec(
        BASE, ["model.norm=none", "model.block.residual_scale=0.0", "model.init={type: normal, embedding_std: 1.0, head_std: 0.2}"]
    )
    assert initial_excess(spec) == pytest.approx(32 * 0.2**2 / 2, rel=0.25)


@pytest.mark.parametrize("name", study_names(RECIPES))
def test_no_arm_of_a_study_that_ships_is_confounded(name: str) -> None:
    plan = make_plan(load_study(f"recipe:{name}"))
    assert plan.warnings == () and not any(arm.confounded for arm in plan.arms)


def test_a_plan_of_six_arms_takes_seconds() -> None:
    study = load_study("recipe:attention")
    make_plan(study)
    began = time.process_time()
    make_plan(study)
    assert time.process_time() - began < 10


def test_the_probe_times_every_arm_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"Line {n} of a text that is {n * n} words long." for n in range(400)))
    data = {
        "source": {"type": "text", "paths": [str(tmp_path / "text.txt")], "split": "line"},
        "cache": str(tmp_path / "cache"),
        "validation": 0.5,
    }
    study = {**STUDY, "extends": {**BASE, "data": data, "train": {"steps": 1000, "batch_size": 4}}, "match": "params"}
    threads = torch.get_num_threads()
    plan = estimate(make_plan(load_study(study)), workers=2)
    assert plan.estimate is not None and torch.get_num_threads() == threads
    assert plan.estimate.cells == 6 and plan.estimate.workers == 2
    seconds = [arm.seconds for arm in plan.arms]
    assert all(one is not None and one > 0 and math.isfinite(one) for one in seconds)
    assert plan.estimate.seconds == pytest.approx(3 * sum(one or 0 for one in seconds) / 2)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("text.txt", "cache")] == []
