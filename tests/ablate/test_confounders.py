"""What confounds is called so with its reason, and what is under study is not."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.ablate.confounders import Confounder
from llmkit.ablate.plan import make_plan
from llmkit.ablate.study import load_study

BASE: dict[str, Any] = {
    "tokenizer": {"type": "bpe", "vocab_size": 300},
    "model": {
        "d_model": 32,
        "n_layers": 2,
        "max_seq_len": 32,
        "block": {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 64}},
    },
    "train": {"steps": 10, "batch_size": 4},
}
MQA = {"model.block.attention": {"type": "mqa", "n_heads": 4}}
ATTENTION = {"attention": {"mha": {}, "mqa": MQA}}


def found(axes: dict[str, Any], baseline: str, arm: str, **study: Any) -> list[Confounder]:
    plan = make_plan(load_study({"extends": BASE, "axes": axes, "baseline": baseline, "seeds": 3, **study}))
    assert plan.baseline.confounders == ()
    return list(plan.arm(arm).confounders)


def confounding(*arguments: Any, **study: Any) -> dict[str, str]:
    return {one.kind: one.message for one in found(*arguments, **study) if one.severity == "confounded"}


def noted(*arguments: Any, **study: Any) -> dict[str, str]:
    return {one.kind: one.message for one in found(*arguments, **study) if one.severity == "note"}


def test_unequal_parameters_confound_until_they_are_matched_or_waived() -> None:
    said = confounding(ATTENTION, "mha", "mqa")
    # Each of two layers loses 2 x 32 x 24 weights of keys and values.
    assert list(said) == ["parameters"] and "36,768 parameters, the baseline 39,840 (-7.7%)" in said["parameters"]
    assert "give match: params" in said["parameters"]
    assert confounding(ATTENTION, "mha", "mqa", match="params") == {}
    for waived in ("parameters", "model.block.attention", "model.block.attention.type"):
        assert confounding(ATTENTION, "mha", "mqa", waive=[waived]) == {}
        (one,) = (one for one in found(ATTENTION, "mha", "mqa", waive=[waived]) if one.kind == "parameters")
        assert one.waived and one.message.endswith(f"(waived: {waived})")


def test_with_one_cost_held_the_other_is_a_note() -> None:
    wide = {"ffn": {"swiglu": {}, "moe": {"model.block.ffn": {"type": "moe", "n_experts": 4, "n_active": 2, "d_ff": 32}}}}
    assert "FLOPs were matched" in noted(wide, "swiglu", "moe", match="flops")["parameters"]
    assert confounding(wide, "swiglu", "moe", match="flops") == {}
    assert "not held equal" in noted(wide, "swiglu", "moe", match="params")["flops"]
    assert confounding(wide, "swiglu", "moe", match="params") == {}


def test_what_the_dial_cannot_reach_confounds() -> None:
    axes = {"attention": {"mha": {}, "wide": {"model.block.attention": {"type": "mha", "n_heads": 4, "head_width": 128}}}}
    assert "the dial could not be turned far enough" in confounding(axes, "mha", "wide", match="params")["parameters"]


def test_a_changed_vocabulary_confounds_a_loss_per_token_and_not_bits_per_byte() -> None:
    axes = {"tokenizer": {"small": {}, "large": {"tokenizer": {"type": "bpe", "vocab_size": 600}}}}
    said = confounding(axes, "small", "large", metric="val_loss")
    assert list(said) == ["vocabulary"] and "600 ids against 300" in said["vocabulary"] and "bits per byte" in said["vocabulary"]
    assert "vocabulary" in confounding(axes, "small", "large", metric="perplexity.loss")
    assert confounding(axes, "small", "large") == {}
    assert "all of it in the tables" in noted(axes, "small", "large")["parameters"] and "text" in noted(axes, "small", "large")


def test_two_cleanings_are_compared_fairly_on_a_text_of_its_own() -> None:
    axes = {"documents": {"all": {}, "topics": {"data.source": {"type": "pydoc", "docstrings": False}}}}
    assert list(confounding(axes, "all", "topics")) == ["validation"]
    own = {"data.holdout": {"type": "synthetic", "task": "dyck", "documents": 50}}
    axes = {"documents": {"all": own, "topics": {**own, "data.source": {"type": "pydoc", "docstrings": False}}}}
    assert confounding(axes, "all", "topics") == {}
    other = {"data.holdout": {"type": "synthetic", "task": "copying", "documents": 50}}
    assert list(confounding({"held": {"one": own, "other": other}}, "one", "other")) == ["validation"]


def test_another_validation_text_confounds() -> None:
    axes = {"held": {"few": {}, "many": {"data.validation": 0.2}}}
    said = confounding(axes, "few", "many")
    assert list(said) == ["validation"] and "data.validation" in said["validation"]
    assert confounding(axes, "few", "many", waive=["data.validation"]) == {}


@pytest.mark.parametrize(("tuned", "whose"), [("mha", "for the baseline only"), ("mqa", "for this arm only")])
def test_a_search_for_one_side_only_confounds(tuned: str, whose: str) -> None:
    tune = {"train.optimizer.lr": [1e-3, 2e-3]}
    said = confounding(ATTENTION, "mha", "mqa", match="params", tune=tune, tune_arms=[tuned])
    assert list(said) == ["learning_rate"] and f"train.optimizer.lr tuned {whose}" in said["learning_rate"]
    assert confounding(ATTENTION, "mha", "mqa", match="params", tune=tune) == {}


def test_a_learning_rate_set_for_one_arm_beside_its_model_confounds() -> None:
    axes = {"attention": {"mha": {}, "mqa": {**MQA, "train.optimizer.lr": 2e-3}}}
    said = confounding(axes, "mha", "mqa", match="params")
    assert list(said) == ["learning_rate"] and "sets train.optimizer.lr for this arm beside the model" in said["learning_rate"]
    tune = {"train.optimizer.lr": [1e-3, 2e-3]}
    assert confounding(axes, "mha", "mqa", match="params", tune=tune) == {}
    both = {"attention": {"mha": {"train.optimizer.lr": 1e-3}, "mqa": {**MQA, "train.optimizer.lr": 2e-3}}}
    assert confounding(both, "mha", "mqa", match="params") == {}
    assert "of its own beside the model" in noted(both, "mha", "mqa", match="params")["learning_rate"]


@pytest.mark.parametrize(
    "alternative",
    [
        {"train.optimizer.lr": 1e-4},
        {"train.steps": 1},
        {"train.tokens": 128},
        {"train.schedule": "constant"},
        {"train.optimizer": {"type": "adamw", "lr": 1e-3, "decay_vectors": True}},
        {"train.batch_size": 8, "train.steps": 5},
        {"train.data_seed": 7},
        {"train.init_seed": 7},
        {"model.d_model": 16},
        {"model.n_layers": 1},
        {"model.block.ffn.d_ff": 32},
        {"model.position": "none"},
        {"model.init": {"type": "normal", "std": 0.04}},
        {"train.checkpoint_every": 3},
    ],
    ids=lambda alternative: "+".join(alternative),
)
def test_what_an_axis_is_about_does_not_confound_it(alternative: dict[str, Any]) -> None:
    assert confounding({"x": {"base": {}, "other": alternative}}, "base", "other") == {}


def test_an_arm_that_differs_on_two_axes_is_confounded_by_neither() -> None:
    axes = {**ATTENTION, "rate": {"high": {}, "low": {"train.optimizer.lr": 1e-4}}}
    assert confounding(axes, "mha/high", "mqa/low", match="params") == {}


def test_a_budget_that_follows_from_a_choice_confounds() -> None:
    axes = {"batch": {"four": {}, "eight": {"train.batch_size": 8}}}
    said = confounding(axes, "four", "eight")
    assert list(said) == ["tokens"] and "match: tokens" in said["tokens"]
    assert "reads 2,560 tokens, the baseline 1,280 (+100%)" in said["tokens"]
    assert confounding(axes, "four", "eight", match="tokens") == {}


def test_a_budget_set_beside_a_model_confounds() -> None:
    said = confounding({"attention": {"mha": {}, "mqa": {**MQA, "train.steps": 20}}}, "mha", "mqa", match="params")
    assert list(said) == ["tokens"]


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        ({"train.schedule": "constant"}, "schedule"),
        ({"train.precision": "bf16"}, "precision"),
        ({"train.data_seed": 3}, "data_order"),
        ({"train.grad_clip": 0.1}, "training"),
        ({"train.optimizer.weight_decay": 0.3}, "optimizer"),
        ({"tokenizer": {"type": "bpe", "vocab_size": 310}}, "vocabulary"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_set_beside_a_model_confounds_by_its_kind(beside: dict[str, Any], kind: str) -> None:
    assert kind in confounding({"attention": {"mha": {}, "mqa": {**MQA, **beside}}}, "mha", "mqa", match="params")


def test_another_initial_scale_is_noted() -> None:
    loud = {"init": {"small": {}, "large": {"model.init": {"type": "normal", "std": 0.5}}}}
    assert "another initial scale" in noted(loud, "small", "large")["initial_scale"]
