"""Initialisations against the figures of their papers and the code that came with them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.init import named_parameters_with_roles


def spec(init: Any, d_model: int = 256, n_layers: int = 2, **model: Any) -> Spec:
    heads = {"type": "mha", "n_heads": d_model // 32}
    block = {"attention": heads, "ffn": {"type": "mlp", "d_ff": 4 * d_model}}
    document = {"d_model": d_model, "n_layers": n_layers, "max_seq_len": 16, "init": init, "block": block, **model}
    return llmkit.load_spec({"tokenizer": "bytes", "model": document, "train": {"steps": 1}})


def deviations(chosen: Spec) -> dict[str, float]:
    return {name: float(value.std()) for name, value in build(chosen).state_dict().items() if value.dim() > 1}


def close(value: float) -> Any:
    return pytest.approx(value, rel=0.03)


def test_normal_has_one_deviation_and_takes_others_by_role() -> None:
    found = deviations(spec({"type": "normal", "std": 0.05, "embedding_std": 1.0, "head_std": 0.01}))
    assert found.pop("embedding.weight") == close(1.0)
    assert found.pop("head.weight") == close(0.01)
    assert list(found.values()) == [close(0.05)] * len(found)


def test_gpt2_divides_branch_ends_by_the_root_of_the_number_of_branches_as_transformers_does() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=256, n_layer=6, n_head=8, vocab_size=258, n_positions=16)
    theirs = {name: float(value.std()) for name, value in transformers.GPT2LMHeadModel(config).state_dict().items()}
    ours = deviations(spec("gpt2", n_layers=6))
    pairs = {"attention.query": "attn.c_attn", "attention.output": "attn.c_proj", "ffn.up": "mlp.c_fc", "ffn.down": "mlp.c_proj"}
    for own, their in pairs.items():
        assert ours[f"blocks.0.{own}.weight"] == close(theirs[f"transformer.h.0.{their}.weight"])
    assert ours["blocks.0.ffn.down.weight"] == close(0.02 / math.sqrt(12))


def test_megatron_follows_from_the_width() -> None:
    found = deviations(spec("megatron", d_model=320))
    assert [found["blocks.1.ffn.up.weight"], found["embedding.weight"]] == [close(math.sqrt(2 / 1600))] * 2
    assert found["blocks.1.attention.output.weight"] == close(math.sqrt(2 / 1600) / 2)


def test_olmo_follows_from_the_inputs_and_the_depth_and_has_no_tails() -> None:
    chosen = spec("olmo", n_layers=4)
    found = deviations(chosen)
    # Cut off at three deviations, a normal distribution keeps 98.66% of its own.
    kept = 0.98658
    assert found["blocks.3.attention.query.weight"] == close(kept / 16)
    assert found["blocks.3.ffn.down.weight"] == close(kept / math.sqrt(2 * 1024 * 4))
    assert found["blocks.0.ffn.down.weight"] == close(kept / math.sqrt(2 * 1024))
    values = build(chosen).state_dict()["blocks.0.ffn.up.weight"]
    assert float(values.abs().max()) <= 3 / 16


def test_mup_at_its_base_width_is_normal_bit_for_bit() -> None:
    ours, plain = build(spec({"type": "mup", "base_width": 256})), build(spec("normal"))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in ours.state_dict().items())
    assert {one.lr_scale for one in named_parameters_with_roles(ours, ours.spec.model)} == {1.0}


def test_mup_narrows_matrices_slows_them_and_scales_the_logits() -> None:
    chosen = spec({"type": "mup", "base_width": 64, "std": 0.02})
    found = deviations(chosen)
    assert found["blocks.0.ffn.up.weight"] == close(0.01)
    assert [found["embedding.weight"], found["head.weight"]] == [close(0.02), close(0.02)]
    model = build(chosen)
    scales = {one.name: one.lr_scale for one in named_parameters_with_roles(model, chosen.model)}
    assert scales["blocks.0.ffn.up.weight"] == 0.25
    assert scales["head.weight"] == scales["embedding.weight"] == scales["norm.weight"] == 1
    h = torch.randn(1, 2, 256)
    torch.testing.assert_close(model.head(h), nn.functional.linear(h, model.head.weight) / 4)


def test_a_tied_head_under_mup_is_scaled_as_well() -> None:
    assert build(spec({"type": "mup", "base_width": 128}, tie_embeddings=True)).head.scale == 0.5


def test_an_init_changes_no_vector_and_no_other_stream() -> None:
    ours, plain = build(spec("olmo")).state_dict(), build(spec("normal")).state_dict()
    vectors = [name for name, value in ours.items() if value.dim() == 1]
    assert vectors
    assert all(torch.equal(ours[name], plain[name]) for name in vectors)


@pytest.mark.parametrize("optimizer", [{"type": "muon", "adamw_lr": 1e-3}, "adafactor", "sgd"])
def test_mup_beside_an_optimizer_that_scales_otherwise_is_refused(optimizer: Any) -> None:
    document = {"d_model": 64, "n_layers": 1, "max_seq_len": 16, "init": {"type": "mup", "base_width": 32}}
    with pytest.raises(UserError, match=r"model\.init: init 'mup' needs an optimizer that offers elementwise"):
        llmkit.load_spec({"tokenizer": "bytes", "model": document, "train": {"steps": 1, "optimizer": optimizer}})
