"""What an arm becomes is what a person would get who wrote it by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.ablate.arms import arm_differences, axes_between, filled_specs, product, spec_of, with_settings
from llmkit.ablate.study import load_study
from llmkit.core.filled import filled
from llmkit.core.problems import SpecError
from llmkit.runtime import load_spec

BASE: dict[str, Any] = {
    "name": "s",
    "tokenizer": "bytes",
    "model": {
        "d_model": 32,
        "n_layers": 2,
        "max_seq_len": 32,
        "block": {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 64}},
    },
    "train": {"tokens": 4000, "batch_size": 4},
}
AXES: dict[str, Any] = {
    "attention": {"mha": {}, "gqa": {"model.block.attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}}},
    "budget": {"tokens": {}, "steps": {"train.steps": 10}},
}
STUDY: dict[str, Any] = {"name": "s", "extends": BASE, "axes": AXES, "baseline": {"attention": "mha", "budget": "tokens"}}


def test_the_last_axis_turns_fastest() -> None:
    assert list(product({"a": ["1", "2"], "b": ["x", "y"]})) == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]


def test_an_arm_is_the_spec_with_the_same_overrides_on_the_command_line() -> None:
    specs = filled_specs(load_study(STUDY))
    attention = "model.block.attention={type: gqa, n_heads: 4, n_kv_heads: 2}"
    assert specs == {
        "mha/tokens": load_spec(BASE),
        "mha/steps": load_spec(BASE, ["train.steps=10"]),
        "gqa/tokens": load_spec(BASE, [attention]),
        "gqa/steps": load_spec(BASE, [attention, "train.steps=10"]),
    }
    assert specs["gqa/steps"].train.tokens is None


def test_an_alternative_of_one_block_reaches_every_block_that_inherits_it() -> None:
    base = {**BASE, "model": {**BASE["model"], "blocks": {"a": {}, "b": {"layout": "post"}}, "pattern": ["a", "b"]}}
    axes = {"norm": {"rms": {}, "layer": {"model.block.norm": "layernorm"}}}
    specs = filled_specs(load_study({"extends": base, "axes": axes, "baseline": "rms"}))
    assert [specs["layer"].model.block_at(layer).norm.type for layer in (0, 1)] == ["layernorm", "layernorm"]


def test_alternatives_may_change_the_tokenizer_and_the_data() -> None:
    axes = {
        "tokenizer": {"bytes": {}, "bpe": {"tokenizer": {"type": "bpe", "vocab_size": 300}}},
        "held": {"few": {}, "many": {"data.validation": 0.2}},
    }
    specs = filled_specs(load_study({"extends": BASE, "axes": axes, "baseline": "bytes/few"}))
    assert specs["bpe/many"].vocab_size == 300 and specs["bpe/many"].data.validation == 0.2


def test_a_problem_of_an_arm_names_the_arms_that_have_it() -> None:
    axes = {**AXES, "attention": {"mha": {}, "five": {"model.block.attention.n_heads": 5}}}
    with pytest.raises(SpecError, match=r"model\.block\.attention.*: arm 'five/tokens', 'five/steps': .*5") as caught:
        load_study({**STUDY, "axes": axes})
    assert len(caught.value.problems) == 1


def test_settings_are_laid_over_an_arm_by_the_same_laws() -> None:
    study = load_study(STUDY)
    settings = {"train.optimizer.lr": 0.01, "train.steps": 3}
    tried = spec_of(study, study.arm("gqa/tokens"), settings)
    assert tried == with_settings(filled_specs(study)["gqa/tokens"], settings)
    assert (tried.train.optimizer.params.lr, tried.train.steps, tried.train.tokens) == (0.01, 3, None)
    with pytest.raises(SpecError, match=r"train\.optimizer\.lr=-1: train\.optimizer\.lr: must be greater than 0"):
        with_settings(tried, {"train.optimizer.lr": -1})


def test_a_filled_arm_is_the_arm() -> None:
    for spec in filled_specs(load_study(STUDY)).values():
        assert load_spec(filled(spec)) == spec == with_settings(spec, {})


def test_differences_tell_what_was_chosen_from_what_follows() -> None:
    study = load_study(STUDY)
    arm = study.arm("gqa/tokens")
    assert axes_between(study, arm) == {"attention": ("model.block.attention",)}
    turned = with_settings(filled_specs(study)["gqa/tokens"], {"model.block.ffn.d_ff": 80})
    found = arm_differences(filled_specs(study)[study.baseline], turned, ["model.block.attention"])
    assert {one.address: (one.baseline, one.value, one.derived) for one in found} == {
        "model.block.attention.type": ("mha", "gqa", False),
        "model.block.attention.n_kv_heads": (None, 2, False),
        "model.block.ffn.d_ff": (64, 80, True),
    }
