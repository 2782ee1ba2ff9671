"""How configurations word what specs say: layers as patterns, scalings with what they leave out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop.wording import activation, gate_name, gated, rope, rope_parameters, stack


@given(st.lists(st.sampled_from(["near", "far", "dense"]), min_size=1, max_size=9))
def test_a_stack_of_any_layers_reads_as_those_layers(kinds: list[str]) -> None:
    attention = {"type": "mha", "n_heads": 4}
    blocks = {
        "near": {"attention": attention | {"window": 4}, "layout": "pre"},
        "far": {"attention": attention, "layout": "pre"},
        "dense": {"attention": attention, "layout": "post"},
    }
    model: dict[str, Any] = {"d_model": 16, "n_layers": len(kinds), "max_seq_len": 16} | stack(kinds, blocks)
    spec = llmkit.load_spec({"tokenizer": "bytes", "model": model})
    found = [spec.model.block_at(layer) for layer in range(len(kinds))]
    assert [(block.attention.params.window, block.layout) for block in found] == [
        (blocks[kind]["attention"].get("window"), blocks[kind]["layout"]) for kind in kinds
    ]


@pytest.mark.parametrize(
    ("kinds", "pattern"),
    [
        ("abab", ["a", "b"]),
        ("aabaa", ["a", "a", "b"]),
        ("abbbbb", {"first": ["a"], "repeat": ["b"]}),
        ("aabcbcb", {"first": ["a", "a"], "repeat": ["b", "c"]}),
    ],
)
def test_a_pattern_is_as_short_as_it_can_be(kinds: str, pattern: Any) -> None:
    blocks = {name: {"layout": layout} for name, layout in zip("abc", ("pre", "post", "sandwich"), strict=True)}
    assert stack(list(kinds), blocks)["pattern"] == pattern


PARAMETERS: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.25},
    {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    {"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0, "original_max_position_embeddings": 32, "beta_fast": 16.0},
    {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0], "long_factor": [2.0], "original_max_position_embeddings": 32},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda one: one["rope_type"])
def test_rope_parameters_come_back_as_they_were(parameters: dict[str, Any]) -> None:
    back = rope_parameters(rope({"rope_parameters": parameters, "max_position_embeddings": 64}, partial=True), partial=True)
    assert {key: back[key] for key in parameters} == parameters


def test_a_scaling_says_by_leaving_out() -> None:
    """transformers takes the factor from the two lengths, and YaRN's temperature from both `mscale`s."""
    longer = {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 16}
    assert rope({"rope_parameters": longer, "max_position_embeddings": 64})["scaling"]["factor"] == 4.0
    even = {**longer, "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.7}
    assert rope({"rope_parameters": even, "max_position_embeddings": 64})["scaling"]["attention_factor"] == 1.0


def test_what_has_no_component_is_named() -> None:
    with pytest.raises(UserError, match="rope_type 'proportional' has no scaling in llmkit; it has linear, llama3"):
        rope({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1.0}, "max_position_embeddings": 64})
    with pytest.raises(UserError, match="no gated network with activation 'tanh'"):
        gated("tanh", 4)
    with pytest.raises(UserError, match="no network with activation 'tanh'"):
        activation("tanh")
    with pytest.raises(UserError, match="no component for layers of kind 'chunked_attention'; of this family it reads full_attention"):
        stack(["full_attention", "chunked_attention"], {"full_attention": {}})


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_pytorch_tanh", "relu2"])
def test_a_gate_has_the_name_that_it_was_read_from(name: str) -> None:
    assert gate_name(gated(name, 4)) == name
