"""Qwen3 (arXiv 2505.09388): Qwen2 with a norm on each head's queries and keys instead of biases, and a head width of its own."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama, qwen2
from llmkit.interop.family import Family
from llmkit.interop.weights import Rotary, Rule
from llmkit.interop.wording import FULL, SLIDING, Config, heads, rmsnorm, stack

QK_NORMS = (
    Rule("blocks.{layer}.attention.query_norm.weight", "model.layers.{layer}.self_attn.q_norm.weight", Rotary()),
    Rule("blocks.{layer}.attention.key_norm.weight", "model.layers.{layer}.self_attn.k_norm.weight", Rotary()),
)


def model_of(config: Config) -> Part:
    model = llama.model_of(config | {"mlp_bias": False})
    block = model.pop("block")
    windows = {FULL: None, SLIDING: config["sliding_window"]}
    blocks = {name: block | {"attention": attention(config, window=size)} for name, size in windows.items()}
    return model | stack(config["layer_types"], blocks)


def attention(config: Config, window: int | None) -> Part:
    """Qwen3's attention, seeing so far."""
    return heads(config, bias=config["attention_bias"], window=window, qk_norm=rmsnorm(config))


def config_of(model: Anatomy) -> Config:
    config = llama.config_of(model)
    del config["mlp_bias"]
    return config | qwen2.windows_config(model)


FAMILY = Family("qwen3", "Qwen3ForCausalLM", model_of, config_of, (*llama.FAMILY.rules, *QK_NORMS))
