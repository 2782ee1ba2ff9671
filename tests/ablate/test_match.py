"""A dial is turned until an arm costs what the baseline does, by counts that transformers makes too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.ablate.arms import with_settings
from llmkit.ablate.confounders import TOLERANCE, percent
from llmkit.ablate.match import CLOSE, default_dials, match, tokens_of
from llmkit.core.spec import Spec
from llmkit.model.count import account
from llmkit.runtime import load_spec

MODEL: dict[str, Any] = {
    "d_model": 64,
    "n_layers": 3,
    "max_seq_len": 32,
    "block": {"attention": {"type": "mha", "n_heads": 8}, "ffn": {"type": "swiglu", "d_ff": 176}},
}

MQA = "{type: mqa, n_heads: 8}"


def spec(*overrides: str, model: dict[str, Any] | None = None) -> Spec:
    return load_spec(
        {"name": "s", "tokenizer": {"type": "bytes"}, "model": model or MODEL, "train": {"steps": 10, "batch_size": 4}}, overrides
    )


def llama_parameters(one: Spec) -> int:
    """Of the same shape, as transformers builds it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    block = one.model.block_at(0)
    config = LlamaConfig(
        vocab_size=one.vocab_size,
        hidden_size=one.model.d_model,
        intermediate_size=block.ffn.params.d_ff,
        num_hidden_layers=one.model.n_layers,
        num_attention_heads=block.attention.params.n_heads,
        num_key_value_heads=getattr(block.attention.params, "n_kv_heads", 1),
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_grouped_heads_are_matched_in_parameters_as_transformers_counts_them(n_kv_heads: int) -> None:
    grouped = spec(f"model.block.attention={{type: gqa, n_heads: 8, n_kv_heads: {n_kv_heads}}}")
    found = match(grouped, spec(), "params")
    target = llama_parameters(spec("model.block.attention={type: gqa, n_heads: 8, n_kv_heads: 8}"))
    assert abs(llama_parameters(found.spec) / target - 1) <= CLOSE
    assert found.words is not None and f"{llama_parameters(found.spec):,} parameters" in found.words
    assert found.settings == {"model.block.ffn.d_ff": found.spec.model.block_at(0).ffn.params.d_ff}


def test_the_words_say_what_was_turned_and_how_near_it_came() -> None:
    # 64 x 64 x 2 x 7/8 weights of a layer go from keys and values into three matrices of 64: 7,168 / 192 = 37.33 more channels.
    assert match(spec(f"model.block.attention={MQA}"), spec(), "params").words == "d_ff 176 -> 213: 183,808 parameters, -0.1%"


def test_flops_are_matched_by_what_build_counts() -> None:
    found = match(spec(f"model.block.attention={MQA}"), spec(), "flops")
    ours, theirs = (account(one).flops_per_token.training for one in (found.spec, spec()))
    assert abs(ours / theirs - 1) <= CLOSE and abs(found.apart - (ours / theirs - 1)) < 1e-12


@settings(max_examples=8, deadline=None)
@given(heads=st.sampled_from([1, 2, 4, 8]), d_ff=st.integers(40, 400), ffn=st.sampled_from(["swiglu", "mlp", "geglu"]))
def test_any_arm_that_can_be_matched_is_within_one_percent(heads: int, d_ff: int, ffn: str) -> None:
    arm = spec(f"model.block.attention={{type: gqa, n_heads: 8, n_kv_heads: {heads}}}", f"model.block.ffn={{type: {ffn}, d_ff: {d_ff}}}")
    found = match(arm, spec(), "params")
    ours, theirs = (account(one).parameters.total for one in (found.spec, spec()))
    assert abs(ours / theirs - 1) <= TOLERANCE and abs(found.apart - (ours / theirs - 1)) < 1e-12


def test_what_is_close_already_is_left_as_it_is() -> None:
    layernorm = spec("model.block.norm=layernorm")
    found = match(layernorm, spec(), "params")
    assert found.spec == layernorm and found.words is None and 0 < found.apart <= CLOSE


def test_a_round_width_is_preferred_where_it_is_close_enough() -> None:
    large = spec("model.d_model=512", "model.block.ffn.d_ff=1376")
    found = match(with_settings(large, {"model.block.attention": {"type": "mqa", "n_heads": 8}}), large, "params")
    assert found.spec.model.block_at(0).ffn.params.d_ff % 8 == 0 and abs(found.apart) <= CLOSE


def test_a_width_that_follows_from_the_model_is_a_dial_too() -> None:
    derived = spec("model.block.ffn=geglu")
    assert default_dials(derived) == {"model.block.ffn.d_ff": 192}
    assert abs(match(derived, spec(), "params").apart) <= TOLERANCE


def test_blocks_are_turned_together_in_proportion() -> None:
    blocks = {"a": {"ffn": {"type": "swiglu", "d_ff": 128}}, "b": {"ffn": {"type": "mlp", "d_ff": 256}}}
    hybrid = {**MODEL, "n_layers": 4, "blocks": blocks, "pattern": ["a", "b"]}
    baseline = spec(model=hybrid)
    arm = spec(f"model.blocks.a.attention={MQA}", f"model.blocks.b.attention={MQA}", model=hybrid)
    found = match(arm, baseline, "params")
    a, b = (found.spec.model.block_at(layer).ffn.params.d_ff for layer in (0, 1))
    assert a > 128 and abs(b / a - 2) < 0.02 and abs(found.apart) <= TOLERANCE
    assert found.words is not None and found.words.startswith(f"model.blocks.a.ffn.d_ff 128 -> {a}, model.blocks.b.ffn.d_ff 256 -> {b}: ")


def test_another_dial_keeps_to_values_that_every_component_takes() -> None:
    found = match(spec("model.n_layers=2"), spec(), "params", ["model.d_model"])
    # Eight heads with a rotary position: the width is a multiple of 16.
    assert found.spec.model.d_model % 16 == 0 and found.spec.model.d_model > 64
    nearer = [account(with_settings(spec("model.n_layers=2"), {"model.d_model": width})).parameters.total for width in (64, 80, 96)]
    target = account(spec()).parameters.total
    assert abs(account(found.spec).parameters.total - target) == min(abs(one - target) for one in nearer)


def test_what_cannot_be_matched_says_how_far_it_is() -> None:
    found = match(spec("model.d_model=256"), spec(), "params")
    assert found.apart > TOLERANCE and found.words is not None and "d_ff 176 -> 1: " in found.words


def test_match_none_turns_nothing() -> None:
    arm = spec(f"model.block.attention={MQA}")
    found = match(arm, spec(), "none")
    assert found.spec == arm and found.words is None


def test_tokens_are_matched_by_the_number_of_steps() -> None:
    arm = spec("train.batch_size=6")
    found = match(arm, spec(), "tokens")
    assert tokens_of(spec()) == 1280 and found.spec.steps == 7 and tokens_of(found.spec) == 1344
    assert found.words == "train.tokens 1,920 -> 1,280: 1,344 tokens in 7 steps, +5%"
    assert match(spec("model.block.norm=layernorm"), spec(), "tokens").words is None


def test_a_part_reads_as_a_person_writes_it() -> None:
    assert [percent(part) for part in (0.0, 0.0021, -0.05, 0.00001, 1.5)] == ["equal", "+0.21%", "-5%", "equal", "+150%"]
