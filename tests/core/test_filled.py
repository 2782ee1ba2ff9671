"""A spec written out whole, and what differs between two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.compose import recipe_names
from llmkit.core.document import read_yaml
from llmkit.core.filled import differences, filled, to_yaml
from llmkit.runtime import RECIPES, load_spec

MODEL = {"d_model": 64, "n_layers": 3, "max_seq_len": 32}
ATTENTIONS = st.one_of(
    st.fixed_dictionaries({"type": st.just("mha"), "n_heads": st.sampled_from([2, 4])}, optional={"window": st.integers(1, 9)}),
    st.fixed_dictionaries(
        {"type": st.just("gqa"), "n_heads": st.just(4), "n_kv_heads": st.sampled_from([1, 2, 4]), "bias": st.sampled_from([True, "qkv"])}
    ),
)
NORMS = st.sampled_from(
    ["rmsnorm", "none", {"type": "layernorm", "eps": 1e-3}, {"type": "layernorm", "bias": False}, {"type": "rmsnorm", "eps": 1e-7}]
)
BLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "attention": ATTENTIONS,
        "norm": NORMS,
        "layout": st.sampled_from(["pre", "post", "parallel"]),
        "position": st.sampled_from(["none", "alibi"]),
    },
)
HYBRIDS = st.fixed_dictionaries(
    {
        "blocks": st.fixed_dictionaries({"a": BLOCKS, "b": BLOCKS}),
        "pattern": st.sampled_from([["a", "b"], {"first": ["a"], "repeat": ["b"]}]),
    }
)
POSITIONS = st.sampled_from(["rope", "learned", "none", {"type": "rope", "theta": 5e5, "scaling": {"type": "llama3"}}])
MODELS = st.builds(
    lambda block, hybrid, position, final: {**MODEL, "block": block, "position": position, **hybrid, **({"norm": final} if final else {})},
    BLOCKS,
    st.just({}) | HYBRIDS,
    POSITIONS,
    st.none() | NORMS,
)
LENGTHS = st.sampled_from([{}, {"steps": 7}, {"tokens": 1000}, {"seq_len": 16, "tokens": 999}])
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=8).filter(
    lambda name: name.strip() and name not in (".", "..")
)


@settings(max_examples=60, deadline=None)
@given(MODELS, LENGTHS, NAMES)
def test_a_filled_spec_loads_as_the_spec_it_was_filled_from(model, train, name):
    spec = load_spec({"name": name, "tokenizer": "bytes", "model": model, "train": train})
    written = to_yaml(filled(spec))
    assert load_spec(read_yaml(written, "filled").plain()) == spec
    assert to_yaml(filled(load_spec(read_yaml(written, "filled").plain()))) == written


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_every_recipe_loads_as_the_same_once_filled(name):
    spec = load_spec(f"recipe:{name}")
    assert load_spec(read_yaml(to_yaml(filled(spec)), "filled").plain()) == spec


def test_what_is_derived_is_told_and_computed_again():
    document = filled(load_spec({"tokenizer": "bytes", "model": MODEL, "train": {"tokens": 1000, "batch_size": 4}}))
    assert document["derived"] == {"model.vocab_size": 258, "train.seq_len": 32, "train.steps": 8, "train.tokens": 1024}
    document["derived"]["train.steps"] = 99
    assert load_spec(document).steps == 8
    assert load_spec(document, ["train.steps=3"]).steps == 3


def test_differences_are_told_by_address_with_nothing_where_one_side_lacks_it():
    left = load_spec({"name": "s", "tokenizer": "bytes", "model": MODEL})
    right = load_spec({"name": "s", "tokenizer": "bytes", "model": {**MODEL, "n_layers": 4, "block": {"norm": "layernorm"}}}, ["eval=[]"])
    assert {address: values for address, *values in differences(left, right)} == {
        "model.n_layers": [3, 4],
        "model.block.norm.type": ["rmsnorm", "layernorm"],
        "model.block.norm.eps": [1e-6, 1e-5],
        "model.block.norm.bias": [None, True],
        "model.block.norm.zero_centred": [False, None],
        "eval.0.type": ["perplexity", None],
        "eval": [None, []],
    }
    assert differences(left, left) == []
