"""Configurations and weights on disk: dtypes, shards, old names, and everything that is missing, left over or misshapen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop import config_of, load_pretrained, save_pretrained, spec_of

transformers = pytest.importorskip("transformers")

LLAMA = {
    "vocab_size": 270,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}


def saved(directory: Path, dtype: torch.dtype = torch.float32, model_type: str = "llama", **settings: Any) -> Path:
    torch.manual_seed(0)
    shards = settings.pop("shards", "5GB")
    config = transformers.AutoConfig.for_model(model_type, **settings)
    transformers.AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(directory, max_shard_size=shards)
    return directory


def rewrite(directory: Path, change: Any) -> None:
    file = directory / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_held_exactly_and_given_back(dtype: torch.dtype, tmp_path: Path) -> None:
    imported = load_pretrained(saved(tmp_path / "hf", dtype, **LLAMA))
    assert {parameter.dtype for parameter in imported.model.parameters()} == {torch.float32}
    save_pretrained(imported.model, tmp_path / "back", dtypes=imported.dtypes)
    before, after = load_file(tmp_path / "hf/model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert before.keys() == after.keys()
    assert all(after[name].dtype == dtype and torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "back/config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_shards_are_read_and_written(tmp_path: Path) -> None:
    saved(tmp_path / "hf", **LLAMA, shards="8KB")
    assert (tmp_path / "hf/model.safetensors.index.json").is_file() and not (tmp_path / "hf/model.safetensors").exists()
    imported = load_pretrained(tmp_path / "hf")
    save_pretrained(imported.model, tmp_path / "back", shard_size="10KB")
    index = json.loads((tmp_path / "back/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, imported.model(ids), atol=1e-5, rtol=1e-5)


def test_files_of_the_first_gpt2_have_bare_names_and_masks(tmp_path: Path) -> None:
    saved(tmp_path / "hf", model_type="gpt2", vocab_size=270, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    reference = load_pretrained(tmp_path / "hf").model.state_dict()

    def as_published(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        weights["h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()

    rewrite(tmp_path / "hf", as_published)
    found = load_pretrained(tmp_path / "hf").model.state_dict()
    assert all(torch.equal(reference[name], found[name]) for name in reference)


def test_a_tied_head_that_a_file_holds_as_well_is_the_embedding(tmp_path: Path) -> None:
    saved(tmp_path / "hf", **LLAMA, tie_word_embeddings=True)
    rewrite(tmp_path / "hf", lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    model = load_pretrained(tmp_path / "hf").model
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop("model.norm.weight"), "has no tensor 'model.norm.weight', which its config.json calls for"),
        (
            lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}),
            r"has tensors for which its config.json has no place: model\.layers\.0\.self_attn\.q_proj\.bias",
        ),
        (
            lambda weights: weights.update({"model.norm.weight": torch.zeros(17)}),
            r"'model\.norm\.weight' is \(17,\), which does not fit norm\.weight \(16,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(change: Any, reason: str, tmp_path: Path) -> None:
    saved(tmp_path / "hf", **LLAMA)
    rewrite(tmp_path / "hf", change)
    with pytest.raises(UserError, match=reason):
        load_pretrained(tmp_path / "hf")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read '.*config\.json'"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json' is no JSON"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **LLAMA}))
    with pytest.raises(UserError, match=r"has neither model\.safetensors nor model\.safetensors\.index\.json"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **LLAMA, "quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(UserError, match=r"the weights are quantised \(quantization_config\); import the model in bf16 or fp32"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **LLAMA}))
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"cannot read '.*model\.safetensors'"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama", **LLAMA, "hidden_act": "tanh"}, "no gated network with activation 'tanh'"),
        ({"model_type": "llama", **LLAMA, "num_hidden_layers": "many"}, "config.json is refused by transformers"),
        (
            {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx is True, for which llmkit has no",
        ),
        ({"model_type": "t5"}, "model_type 't5' is not a family"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0; it must be greater than 0"),
    ],
)
def test_a_configuration_that_no_component_can_say_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        spec_of(config)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"num_attention_heads": 4, "num_key_value_heads": 3},
            "num_attention_heads 4 is not a multiple of num_key_value_heads 3",
        ),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be greater than 0, got 0"),
        ({"rope_theta": -5.0}, "rope_theta: must be greater than 0"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window: must be greater than 0, got 0"),
        ({"model_type": "gpt2", "n_embd": 16, "n_head": 3}, "n_embd 16 is not divisible by n_head 3"),
    ],
)
def test_a_configuration_that_makes_no_model_is_named_with_its_own_keys(config: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config if "n_embd" in config else {"model_type": "llama", **LLAMA, **config}))
    with pytest.raises(UserError, match=rf"^'.*config\.json' makes no model: .*{reason}"):
        load_pretrained(tmp_path)


def test_dynamic_scaling_is_written_as_transformers_reads_it() -> None:
    scaling = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    spec = llmkit.load_spec(spec_of({"model_type": "llama", **LLAMA, "rope_parameters": scaling}))
    assert spec.model.position.params.scaling.original_max_seq_len == LLAMA["max_position_embeddings"]
    assert config_of(spec)["rope_parameters"] == scaling


def test_a_configuration_alone_gives_a_spec_and_the_spec_gives_it_back() -> None:
    config = {"model_type": "llama", **LLAMA, "rope_theta": 500.0, "rms_norm_eps": 1e-5}
    spec = llmkit.load_spec(spec_of(config))
    assert spec.model.position.params.theta == 500.0
    back = config_of(spec)
    assert back["rope_parameters"]["rope_theta"] == 500.0 and back["architectures"] == ["LlamaForCausalLM"]
    assert {key: back[key] for key in LLAMA} == LLAMA


def test_end_tokens_are_those_of_the_generation_configuration_or_of_the_model(tmp_path: Path) -> None:
    saved(tmp_path / "hf", **LLAMA, bos_token_id=3, eos_token_id=[4, 5])
    (tmp_path / "hf/generation_config.json").unlink()
    imported = load_pretrained(tmp_path / "hf")
    assert imported.generation == {"bos_token_id": 3, "eos_token_id": [4, 5]}
    (tmp_path / "hf/generation_config.json").write_text(json.dumps({"eos_token_id": [6, 7], "temperature": 0.6}))
    imported = load_pretrained(tmp_path / "hf")
    save_pretrained(imported.model, tmp_path / "back", generation=imported.generation)
    assert json.loads((tmp_path / "back/generation_config.json").read_text()) == {"eos_token_id": [6, 7], "temperature": 0.6}
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").generation_config.eos_token_id == [6, 7]
