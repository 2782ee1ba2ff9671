"""The decoder with transformers' weights put in by name gives transformers' logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import llmkit
from llmkit.model.build import build
from llmkit.model.decoder import Decoder

transformers = pytest.importorskip("transformers")

VOCAB, WIDTH, LAYERS, LENGTH = 258, 32, 3, 64


def decoder(model: dict[str, Any]) -> Decoder:
    document = {
        "tokenizer": {"type": "bytes"},
        "model": {"d_model": WIDTH, "n_layers": LAYERS, "max_seq_len": LENGTH, "vocab_size": VOCAB, **model},
        "train": {"steps": 1},
    }
    return build(llmkit.load_spec(document)).eval()


def peaked(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights so large that attention is no average: a wrong mask or angle then moves the logits."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.25 if parameter.dim() > 1 else 1 + 0.3 * torch.randn_like(parameter))
    return dict(model.eval().state_dict())


def from_llama(theirs: dict[str, Tensor], tied: bool) -> dict[str, Tensor]:
    names = {
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.o_proj": "attention.output",
        "mlp.gate_proj": "ffn.gate",
        "mlp.up_proj": "ffn.up",
        "mlp.down_proj": "ffn.down",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers": "blocks",
        "model.embed_tokens": "embedding",
        "model.norm": "norm",
        "lm_head": "head",
    }
    ours = {}
    for name, value in theirs.items():
        for old, new in names.items():
            name = name.replace(old, new)
        ours[name] = value
    if tied:
        ours["head.weight"] = ours["embedding.weight"]
    return ours


def from_gpt2(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """GPT-2's matrices are (in, out), and its queries, keys and values one matrix."""
    ours = {
        "embedding.weight": theirs["transformer.wte.weight"],
        "head.weight": theirs["transformer.wte.weight"],
        "position.weight": theirs["transformer.wpe.weight"],
        "norm.weight": theirs["transformer.ln_f.weight"],
        "norm.bias": theirs["transformer.ln_f.bias"],
    }
    plain = {"attn.c_proj": "attention.output", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
    norms = {"ln_1": "attention_norm", "ln_2": "ffn_norm"}
    for layer in range(LAYERS):
        old, new = f"transformer.h.{layer}", f"blocks.{layer}"
        for part in ("weight", "bias"):
            pieces = theirs[f"{old}.attn.c_attn.{part}"].split(WIDTH, dim=-1)
            for name, piece in zip(("query", "key", "value"), pieces, strict=True):
                ours[f"{new}.attention.{name}.{part}"] = piece.t()
            for source, target in plain.items():
                ours[f"{new}.{target}.{part}"] = theirs[f"{old}.{source}.{part}"].t()
            for source, target in norms.items():
                ours[f"{new}.{target}.{part}"] = theirs[f"{old}.{source}.{part}"]
    return ours


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "multi-head": ({}, {"type": "mha", "n_heads": 4}, {"type": "rope"}),
    "grouped heads": ({"num_key_value_heads": 2}, {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}, {"type": "rope"}),
    "one key/value head": ({"num_key_value_heads": 1}, {"type": "mqa", "n_heads": 4}, {"type": "rope"}),
    "head width of its own": ({"head_dim": 16}, {"type": "mha", "n_heads": 4, "head_width": 16}, {"type": "rope"}),
    "biases": ({"attention_bias": True}, {"type": "mha", "n_heads": 4, "bias": True}, {"type": "rope"}),
    "linear scaling": (
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"type": "mha", "n_heads": 4},
        {"type": "rope", "scaling": {"type": "linear", "factor": 4.0}},
    ),
    "llama3 scaling": (
        {"rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 16, **LLAMA3}, "rope_theta": 500.0},
        {"type": "mha", "n_heads": 4},
        {"type": "rope", "theta": 500.0, "scaling": {"type": "llama3", "original_max_seq_len": 16, **LLAMA3}},
    ),
    "yarn scaling": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
        {"type": "mha", "n_heads": 4},
        {"type": "rope", "scaling": {"type": "yarn", "factor": 4.0, "original_max_seq_len": 16}},
    ),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("shape", LLAMA_SHAPES)
def test_llama_weights_give_llama_logits(shape: str, tied: bool) -> None:
    config, attention, position = LLAMA_SHAPES[shape]
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **{
                "vocab_size": VOCAB,
                "hidden_size": WIDTH,
                "intermediate_size": 48,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 4,
                "max_position_embeddings": LENGTH,
                "tie_word_embeddings": tied,
                **config,
            }
        )
    )
    weights = from_llama(peaked(theirs), tied)
    ffn, norm = {"type": "swiglu", "d_ff": 48}, {"type": "rmsnorm", "eps": 1e-6}
    ours = decoder({"position": position, "block": {"attention": attention, "ffn": ffn, "norm": norm}, "tie_embeddings": tied})
    ours.load_state_dict(weights, strict=True)
    assert_same_logits(ours, theirs)


def test_mistral_weights_give_mistral_logits_through_a_sliding_window() -> None:
    theirs = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=LENGTH,
            sliding_window=7,
            attn_implementation="eager",
        )
    )
    weights = from_llama(peaked(theirs), False)
    attention = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "window": 7}
    block = {"attention": attention, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": {"type": "rmsnorm", "eps": 1e-6}}
    ours = decoder({"block": block})
    ours.load_state_dict(weights, strict=True)
    assert_same_logits(ours, theirs)
    block["attention"] = {**attention, "window": None}
    unlimited = decoder({"block": block})
    unlimited.load_state_dict(weights, strict=True)
    ids = tokens()
    assert (unlimited(ids) - ours(ids)).abs().max() > 0.1


def test_gpt2_weights_give_gpt2_logits() -> None:
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=LENGTH)
    )
    weights = from_gpt2(peaked(theirs))
    block = {
        "attention": {"type": "mha", "n_heads": 4, "bias": True},
        "ffn": {"type": "mlp", "activation": "gelu_tanh", "bias": True},
        "norm": "layernorm",
    }
    ours = decoder({"position": "learned", "block": block, "tie_embeddings": True})
    ours.load_state_dict(weights, strict=True)
    assert_same_logits(ours, theirs)


def tokens(rows: int = 3, length: int = 40) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


def assert_same_logits(ours: Decoder, theirs: nn.Module) -> None:
    """At once, and read through the caches in chunks."""
    ids = tokens()
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
        caches = ours.new_caches(len(ids), ids.shape[1])
        chunks = [ours(chunk, caches=caches) for chunk in ids.split([1, 17, 1, 1, 20], dim=1)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.5
