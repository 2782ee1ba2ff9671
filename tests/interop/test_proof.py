"""The proof tells a model from any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import llmkit
from llmkit.core.errors import UserError
from llmkit.interop import prove, save_pretrained
from llmkit.interop.proof import Proof
from llmkit.model.decoder import Decoder

pytest.importorskip("transformers")


def model(**more: Any) -> Decoder:
    attention = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "window": 8}
    document = {
        "tokenizer": "bytes",
        "model": {
            "d_model": 32,
            "n_layers": 2,
            "max_seq_len": 96,
            "block": {"attention": attention, "ffn": {"type": "swiglu", "d_ff": 40}},
            **more,
        },
    }
    built = llmkit.build(llmkit.load_spec(document)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    return built


def test_a_proof_holds_for_what_was_written_and_for_nothing_else(tmp_path: Path) -> None:
    ours = model()
    save_pretrained(ours, tmp_path)
    proof = prove(ours, tmp_path)
    assert proof.holds and proof.max_abs_logit_difference < 1e-4
    assert proof.architecture == "MistralForCausalLM" and proof.tokens == 48 and proof.greedy_tokens == 128
    with torch.no_grad():
        ours.blocks[1].attention.key.weight[0] *= 1.1
    changed = prove(ours, tmp_path)
    assert not changed.logits_equal and not changed.holds


def test_a_window_that_is_one_too_wide_fails(tmp_path: Path) -> None:
    ours = model()
    save_pretrained(ours, tmp_path)
    for block in ours.blocks:
        block.attention.window = 9
    ours.windows = {9}
    assert not prove(ours, tmp_path).holds


@pytest.mark.parametrize(("original", "greedy"), [(16, 0), (32, 16)])
def test_a_position_that_takes_no_longer_cache_is_proved_as_far_as_it_goes(tmp_path: Path, original: int, greedy: int) -> None:
    pairs = {"short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [1.0, 3.0, 6.0, 8.0]}
    ours = model(position={"type": "rope", "scaling": {"type": "longrope", **pairs, "original_max_seq_len": original}})
    save_pretrained(ours, tmp_path)
    proof = prove(ours, tmp_path)
    assert proof.holds and proof.greedy_tokens == greedy


def test_a_wrong_cache_fails_by_its_greedy_tokens_alone(tmp_path: Path) -> None:
    ours = model()
    save_pretrained(ours, tmp_path)
    for block in ours.blocks:
        width, heads = block.attention.width, block.attention.kv_heads
        block.attention.new_cache = lambda batch, max_len, *, like, width=width, heads=heads: llmkit.KVCache(
            batch, heads, width, max_len, like=like, window=3
        )
    proof = prove(ours, tmp_path)
    assert proof.logits_equal and not proof.greedy_tokens_equal and not proof.holds


def test_a_proof_that_fails_is_not_written(tmp_path: Path) -> None:
    proof = Proof("LlamaForCausalLM", 0.5, False, True, 96, 128, 1e-4, "5")
    with pytest.raises(UserError, match=r"the proof failed: .* logits differ by up to 0\.5 \(tolerance 0\.0001\) and greedy tokens agree"):
        proof.write(tmp_path)
    assert not list(tmp_path.iterdir())
    replace(proof, logits_equal=True).write(tmp_path)
    assert (tmp_path / "proof.json").is_file()
