"""The laws by which documents become one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.compose import compose, merge, recipe_names, recipe_text, study_names
from llmkit.core.document import located
from llmkit.core.problems import Place, SpecError

LOW, HIGH = Place("low"), Place("high")


def laid(under: Any, over: Any) -> Any:
    return merge(located(under, LOW), located(over, HIGH)).plain()


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    (folder / "studies").mkdir(parents=True)
    (folder / "defaults.yaml").write_text("model:\n  block:\n    norm: rmsnorm\ntrain: {steps: 1000}\n")
    (folder / "tiny.yaml").write_text("name: tiny\nmodel: {d_model: 8}\n")
    (folder / "studies" / "norms.yaml").write_text("# a study\nextends: ../tiny.yaml\nmodel: {d_model: 16}\n")
    return folder


@pytest.mark.parametrize(
    ("under", "over", "result"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"n": {"type": "x", "p": 1}}, {"n": {"type": "y", "q": 2}}, {"n": {"type": "y", "q": 2}}),
        ({"n": {"type": "x", "p": 1}}, {"n": {"type": "x", "q": 2}}, {"n": {"type": "x", "p": 1, "q": 2}}),
        ({"n": {"type": "x", "p": 1}}, {"n": {"q": 2}}, {"n": {"type": "x", "p": 1, "q": 2}}),
        ({"n": {"type": "x", "p": 1}}, {"n": "x"}, {"n": {"type": "x", "p": 1}}),
        ({"n": {"type": "x", "p": 1}}, {"n": "y"}, {"n": "y"}),
        ({"n": "x"}, {"n": {"p": 1}}, {"n": {"type": "x", "p": 1}}),
        ({"n": "x"}, {"n": {"type": "y", "p": 1}}, {"n": {"type": "y", "p": 1}}),
        ({"train": {"steps": 5, "lr": 1}}, {"train": {"tokens": 9}}, {"train": {"tokens": 9, "lr": 1}}),
        ({"train": {"tokens": 9}}, {"train": {"steps": 5}}, {"train": {"steps": 5}}),
        ({"train": {"tokens": 9}}, {"train": {"steps": None}}, {"train": {"tokens": 9, "steps": None}}),
        ({"train": {"steps": 5, "tokens": None}}, {"train": {"tokens": 9}}, {"train": {"tokens": 9}}),
        ({"other": {"steps": 5}}, {"other": {"tokens": 9}}, {"other": {"steps": 5, "tokens": 9}}),
    ],
)
def test_one_layer_over_another(under, over, result):
    assert laid(under, over) == result


KEYS = st.sampled_from(["type", "steps", "a", "b"])
TREES = st.recursive(
    st.sampled_from(["x", "y"]) | st.integers(0, 3) | st.none(),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
LAYERS = st.dictionaries(st.sampled_from(["model", "train", "a"]), TREES, max_size=3)


@settings(max_examples=200, deadline=None)
@given(LAYERS)
def test_a_layer_over_itself_or_over_nothing_is_itself(layer):
    assert laid(layer, layer) == layer and laid({}, layer) == layer and laid(layer, {}) == layer


@settings(max_examples=200, deadline=None)
@given(LAYERS, LAYERS)
def test_laying_a_layer_twice_changes_nothing_more(under, over):
    once = laid(under, over)
    assert laid(once, over) == once


@settings(max_examples=200, deadline=None)
@given(LAYERS, LAYERS)
def test_every_value_comes_from_one_of_the_layers_and_says_which(under, over):
    low, high = located(under, LOW), located(over, HIGH)
    theirs = {LOW: {repr(leaf.plain()) for _, leaf in low.leaves()}, HIGH: {repr(leaf.plain()) for _, leaf in high.leaves()}}
    for _, leaf in merge(low, high).leaves():
        if leaf.value not in ({}, []):
            assert repr(leaf.plain()) in theirs[leaf.place]


def test_layers_lie_in_the_order_defaults_extended_file_overrides(tmp_path, recipes):
    (tmp_path / "base.yaml").write_text("extends: recipe:tiny\nmodel: {n_layers: 1, max_seq_len: 4}\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nmodel: {n_layers: 2}\n")
    document = compose(tmp_path / "top.yaml", ["model.max_seq_len=9"], recipes)
    assert document.plain() == {
        "name": "top",
        "model": {"block": {"norm": "rmsnorm"}, "d_model": 8, "n_layers": 2, "max_seq_len": 9},
        "train": {"steps": 1000},
    }
    layers = {address: leaf.place.file for address, leaf in document.leaves()}
    assert layers["model.block.norm"] == "recipe:defaults" and layers["model.d_model"] == "recipe:tiny"
    assert layers["model.n_layers"].endswith("top.yaml") and layers["model.max_seq_len"] == "--set model.max_seq_len=9"


@pytest.mark.parametrize(
    ("override", "address", "value"),
    [
        ("model.block.norm.eps=1e-5", "model.block.norm", {"type": "rmsnorm", "eps": 1e-5}),
        ("model.block.norm=layernorm", "model.block.norm", "layernorm"),
        ("model.block.norm={type: layernorm, bias: false}", "model.block.norm", {"type": "layernorm", "bias": False}),
        ("eval.0.type=other", "eval.0", {"type": "other"}),
        ("eval=[]", "eval", []),
        ("train.tokens=2_000", "train", {"tokens": 2000}),
    ],
)
def test_an_override_by_address(recipes, override, address, value):
    document = compose({"eval": [{"type": "perplexity", "x": 1}]}, [override], recipes)
    assert document.walk(address.split("."))[1].plain() == value


def test_steps_and_tokens_in_two_overrides_are_one_layer_and_refused(recipes):
    with pytest.raises(SpecError, match=r"excludes 'train\.steps', given at --set train\.steps=1"):
        compose({}, ["train.steps=1", "train.tokens=2"], recipes)


def test_named_blocks_inherit_from_block_by_the_same_laws(recipes):
    blocks = {"plain": None, "own": {"norm": {"eps": 1}}, "other": {"norm": "layernorm", "layout": "post"}}
    document = compose({"model": {"block": {"norm": {"eps": 2, "b": 3}}, "blocks": blocks}}, ["model.block.layout=pre"], recipes)
    assert document.plain()["model"] == {
        "blocks": {
            "plain": {"norm": {"type": "rmsnorm", "eps": 2, "b": 3}, "layout": "pre"},
            "own": {"norm": {"type": "rmsnorm", "eps": 1, "b": 3}, "layout": "pre"},
            "other": {"norm": "layernorm", "layout": "post"},
        }
    }


def test_an_override_of_block_that_no_named_block_takes_is_refused(recipes):
    model = {"blocks": {"one": {"norm": "none"}, "two": {"norm": "layernorm"}}}
    with pytest.raises(SpecError, match=r"--set model\.block\.norm=rms: model\.block\.norm: changes nothing, since every block"):
        compose({"model": model}, ["model.block.norm=rms"], recipes)
    heard = compose({"model": {"blocks": {**model["blocks"], "three": {}}}}, ["model.block.norm=rms"], recipes)
    assert heard.plain()["model"]["blocks"]["three"] == {"norm": "rms"}


def test_what_was_derived_is_not_read(recipes):
    assert "derived" not in compose({"derived": {"model.vocab_size": 1}}, [], recipes).value


def test_a_circle_of_files_is_told_where_it_closes(tmp_path, recipes):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("# words\nextends: ./sub/../a.yaml\n")
    (tmp_path / "sub").mkdir()
    with pytest.raises(SpecError, match=r"b\.yaml:2:10: extends: .*break the circle"):
        compose(tmp_path / "a.yaml", [], recipes)


@pytest.mark.parametrize("name", ["recipe:tinny", "recipe:../secret", "recipe:defaults/../tiny"])
def test_a_recipe_is_one_that_ships(tmp_path, recipes, name):
    (tmp_path / "secret.yaml").write_text("name: secret\n")
    with pytest.raises(SpecError, match="no recipe is called"):
        compose(name, [], recipes)


def test_the_defaults_are_no_recipe_to_start_from(recipes):
    assert recipe_names(recipes) == ["tiny"]


def test_the_studies_that_ship_lie_in_a_folder_of_their_own(recipes):
    assert study_names(recipes) == ["studies/norms"]


def test_a_study_is_no_spec_and_the_message_says_what_runs_it(tmp_path, recipes):
    (tmp_path / "s.yaml").write_text("extends: recipe:tiny\naxes: {norm: {none: {}}}\n")
    with pytest.raises(SpecError, match=r"s\.yaml:2:1: axes: .*is a study, not a spec; run it with `llmkit ablate"):
        compose(tmp_path / "s.yaml", [], recipes)


def test_a_recipe_that_is_copied_elsewhere_extends_the_same(tmp_path, recipes):
    (tmp_path / "mine.yaml").write_text(recipe_text("studies/norms", recipes))
    assert (tmp_path / "mine.yaml").read_text() == "# a study\nextends: recipe:tiny\nmodel: {d_model: 16}\n"
    assert compose(tmp_path / "mine.yaml", [], recipes).plain()["model"]["d_model"] == 16
