"""The composition root: documents and what is installed become a spec."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import llmkit
from llmkit.core.problems import SpecError
from llmkit.runtime import RECIPES, assemble, catalog, load_located, load_spec

CONTRACT = """\
llmkit: 1
name: tiny-llama
requires: ["pydantic>=2"]
tokenizer: {type: bpe, vocab_size: 4096}
model:
  d_model: 256
  n_layers: 6
  max_seq_len: 256
  position: {type: rope, theta: 10000}
  block:
    attention: {type: gqa, n_heads: 8, n_kv_heads: 2}
    ffn: {type: swiglu, d_ff: 688}
    norm: rmsnorm
    layout: pre
  tie_embeddings: true
data: {source: pydoc}
train:
  tokens: 2_000_000
  batch_size: 16
  seq_len: 256
  optimizer: {type: adamw, lr: 1e-3, weight_decay: 0.1}
  schedule: {type: cosine, warmup: 0.05}
  precision: auto
  checkpoint_every: 200
  seed: 0
eval: [perplexity]
"""


def test_the_spec_of_the_documentation_loads(tmp_path):
    (tmp_path / "spec.yaml").write_text(CONTRACT)
    spec = load_spec(tmp_path / "spec.yaml")
    assert spec.name == "tiny-llama" and spec.train.tokens == 2_000_000 and spec.steps == 489 and spec.train.steps is None
    assert spec.model.block.attention.params.n_kv_heads == 2 and spec.train.optimizer.params.lr == 1e-3


@pytest.mark.parametrize(
    "source", ["recipe:tiny", str(RECIPES / "tiny.yaml"), RECIPES / "tiny.yaml", {"extends": "recipe:tiny", "name": "tiny"}]
)
def test_a_source_is_a_recipe_a_path_or_a_mapping(source):
    assert load_spec(source) == load_spec("recipe:tiny")


def test_the_name_is_the_files_own_stem_and_is_not_inherited(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: recipe:tiny\n")
    assert load_spec(tmp_path / "mine.yaml").name == "mine"
    assert load_spec(tmp_path / "mine.yaml", ["name=other"]).name == "other"
    assert load_spec({"extends": "recipe:tiny"}).name == "spec"


def test_overrides_are_told_apart_by_layer():
    loaded = load_located("recipe:tiny", ["model.block.norm.eps=1e-4"])
    assert loaded.spec.model.block.norm.params.eps == 1e-4
    assert str(loaded.document.written_at("model.block.norm.eps")) == "--set model.block.norm.eps=1e-4"
    assert loaded.document.written_at("model.block.norm.type").file == "recipe:tiny"
    assert loaded.document.written_at("train.grad_clip") is None


def test_what_is_installed_is_read_once():
    assert llmkit.catalog() is catalog()
    assert assemble({"LLMKIT_NO_PLUGINS": "1"}).fingerprint == assemble({"LLMKIT_NO_PLUGINS": "yes"}).fingerprint


def test_a_catalog_that_is_given_is_the_only_one_asked():
    with pytest.raises(SpecError, match="installed: none"):
        load_spec("recipe:tiny", catalog=llmkit.core.catalog.Catalog({}))


def test_a_hybrid_repeats_its_pattern_and_inherits_its_blocks():
    blocks = {"local": {"attention": {"window": 8}}, "full": {"position": "none"}}
    model = {"d_model": 64, "n_layers": 5, "max_seq_len": 32, "blocks": blocks, "pattern": ["local", "local", "full"]}
    spec = load_spec({"tokenizer": "bytes", "model": model}, ["model.block.norm=layernorm"])
    assert spec.model.layers() == ["local", "local", "full", "local", "local"]
    assert spec.model.block_at(2).position.type == "none" and spec.model.block_at(0).attention.params.window == 8
    assert {spec.model.block_at(layer).norm.type for layer in range(5)} == {"layernorm"}


def test_a_spec_can_go_to_another_process():
    spec = load_spec("recipe:tiny")
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_defaults_ship_beside_the_recipes():
    assert (RECIPES / "defaults.yaml").exists() and Path(RECIPES).name == "recipes"
