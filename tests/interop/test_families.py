"""Every family both ways: a random model of transformers' is imported, says the same, and is exported with every bit as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from llmkit.interop.family import families
from llmkit.model.generate import generate
from llmkit.train.exchange import export_run, import_run
from llmkit.train.run import load_run

transformers = pytest.importorskip("transformers")

VOCAB, LENGTH, NEW = 290, 128, 64

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
"""Grouped heads; where a family has it, a head width that is not d_model / heads, and a window shorter than what is read."""

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
GPT2 = {"vocab_size": VOCAB, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": LENGTH, "bos_token_id": 1, "eos_token_id": 2}
NEOX = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
LONGROPE = {
    "max_position_embeddings": 2 * LENGTH,
    "original_max_position_embeddings": LENGTH,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
        "short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 4.0, 8.0],
    },
}  # fmt: skip
QWEN3_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 40, "head_dim": 16}
GEMMA3_LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]
DEEPSEEK = {
    **SIZES, "num_key_value_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 10,
    "v_head_dim": 14, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "moe_intermediate_size": 24,
    "n_shared_experts": 2, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0,
}  # fmt: skip
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2, untied, narrow network": ("gpt2", {**GPT2, "n_inner": 100, "tie_word_embeddings": False, "activation_function": "gelu"}),
    "llama": ("llama", {**SIZES, "head_dim": 16}),
    "llama 3.1, tied": ("llama", {**SIZES, "rope_parameters": LLAMA3, "tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama with biases and linear scaling": ("llama", {**SIZES, "attention_bias": True, "mlp_bias": True, "rope_parameters": LINEAR}),
    "llama with dynamic scaling": ("llama", {**SIZES, "rope_parameters": {**LINEAR, "rope_type": "dynamic"}}),
    "llama with yarn and another gate": ("llama", {**SIZES, "rope_parameters": YARN, "hidden_act": "gelu"}),
    "mistral": ("mistral", {**SIZES, "head_dim": 16, "sliding_window": 7}),
    "mistral without a window, tied": ("mistral", {**SIZES, "sliding_window": None, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {**SIZES, "tie_word_embeddings": True}),
    "qwen2 with windows": ("qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}),
    "qwen3": ("qwen3", {**SIZES, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with windows and biases": (
        "qwen3",
        {**SIZES, "head_dim": 16, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2, "attention_bias": True},
    ),
    "olmo2": ("olmo2", {**SIZES, "rope_theta": 500.0}),
    "olmo2 with one key/value head, tied": ("olmo2", {**SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "gpt_neox": ("gpt_neox", {**NEOX, "rotary_pct": 0.5}),
    "gpt_neox one branch after the other, tied": (
        "gpt_neox",
        {**NEOX, "use_parallel_residual": False, "rotary_pct": 1.0, "attention_bias": False, "tie_word_embeddings": True},
    ),
    "phi3": ("phi3", {**SIZES, "sliding_window": 9}),
    "phi3 with longrope, partly turned, tied": ("phi3", {**SIZES, **LONGROPE, "tie_word_embeddings": True}),
    "smollm3": ("smollm3", {**SIZES, "no_rope_layers": [1, 1, 0], "tie_word_embeddings": True}),
    "smollm3 with windows": (
        "smollm3",
        {**SIZES, "no_rope_layers": [1, 0, 0], "use_sliding_window": True, "sliding_window": 9, "tie_word_embeddings": False},
    ),
    "qwen3_moe": ("qwen3_moe", {**SIZES, **QWEN3_EXPERTS, "norm_topk_prob": True, "intermediate_size": 4 * 48}),
    "qwen3_moe with dense layers, tied": ("qwen3_moe", {**SIZES, **QWEN3_EXPERTS, "mlp_only_layers": [0, 2], "tie_word_embeddings": True}),
    "gemma": ("gemma", {**SIZES, "head_dim": 16}),
    "gemma with one key/value head, untied": ("gemma", {**SIZES, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": False}),
    "gemma2": ("gemma2", {**SIZES, "head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0}),
    "gemma2 without soft-caps, untied": (
        "gemma2",
        {**SIZES, "head_dim": 16, "attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False},
    ),
    "gemma3_text": ("gemma3_text", {**SIZES, "head_dim": 16, "sliding_window": 9, "layer_types": GEMMA3_LAYERS}),
    "gemma3_text with scaling, untied": (
        "gemma3_text",
        {
            **SIZES,
            "head_dim": 16,
            "sliding_window": 9,
            "layer_types": GEMMA3_LAYERS[::-1],
            "tie_word_embeddings": False,
            "query_pre_attn_scalar": 20,
            "rope_parameters": {
                "full_attention": {**LINEAR, "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "deepseek_v3": ("deepseek_v3", DEEPSEEK),
    "deepseek_v3 with yarn, halves, straight queries, tied": (
        "deepseek_v3",
        {
            **DEEPSEEK,
            "q_lora_rank": None,
            "rope_interleave": False,
            "tie_word_embeddings": True,
            "norm_topk_prob": False,
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
        },
    ),
    "mixtral": ("mixtral", {**SIZES, **EXPERTS, "head_dim": 16}),
    "mixtral with a window, tied": ("mixtral", {**SIZES, **EXPERTS, "sliding_window": 9, "tie_word_embeddings": True}),
}


def peaked(model_type: str, settings: dict[str, Any]) -> nn.Module:
    """Weights so large that attention is no average: a wrong mask or angle then moves the logits. Scales of norms lie around 1."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(model_type, **settings))
    centre = 0.0 if model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.25 if parameter.dim() > 1 else centre + 0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer))
    return model.eval()


def tensors(directory: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(directory.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("case", CASES)
def test_a_model_says_the_same_when_imported_and_every_bit_comes_back_when_exported(case: str, tmp_path: Path) -> None:
    model_type, settings = CASES[case]
    theirs = peaked(model_type, settings)
    theirs.save_pretrained(tmp_path / "hf")
    proof = import_run(tmp_path / "hf", tmp_path / "run")
    assert proof.holds and proof.architecture == type(theirs).__name__
    ours = load_run(tmp_path / "run").model

    prompts = torch.randint(VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(prompts).logits
        torch.testing.assert_close(ours(prompts), expected, atol=1e-4, rtol=1e-4)
        longest = torch.randint(VOCAB, (1, ours.spec.model.max_seq_len), generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(ours(longest), theirs(longest).logits, atol=1e-4, rtol=1e-4)
        continued = theirs.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    assert generate(ours, prompts.tolist(), max_new_tokens=NEW, temperature=0) == continued[:, prompts.shape[1] :].tolist()
    assert expected.std() > 0.5

    export_run(tmp_path / "run", tmp_path / "back")
    before, after = tensors(tmp_path / "hf"), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert_says_at_least(json.loads((tmp_path / "back/config.json").read_text()), json.loads((tmp_path / "hf/config.json").read_text()))


def assert_says_at_least(after: dict[str, Any], before: dict[str, Any]) -> None:
    """Every setting that was given is as it was; `layer_types` says what `max_window_layers` says."""
    for key, value in before.items():
        if isinstance(value, dict):
            assert_says_at_least(after[key], value)
        elif value is not None and key != "max_window_layers":
            assert after[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_every_family_has_a_case() -> None:
    assert {model_type for model_type, _ in CASES.values()} == set(families())
