"""OLMo 2 (arXiv 2501.00656): norms after each branch instead of before it, and on all queries and all keys together."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama, qwen3
from llmkit.interop.family import Family
from llmkit.interop.weights import Rule
from llmkit.interop.wording import Config, heads, rmsnorm

POST_NORMS = (
    Rule("blocks.{layer}.attention_norm.weight", "model.layers.{layer}.post_attention_layernorm.weight"),
    Rule("blocks.{layer}.ffn_norm.weight", "model.layers.{layer}.post_feedforward_layernorm.weight"),
)


def model_of(config: Config) -> Part:
    model = llama.model_of(config | {"mlp_bias": False})
    attention = heads(config, bias=config["attention_bias"], qk_norm=rmsnorm(config), qk_norm_over="width")
    return model | {"block": model["block"] | {"attention": attention, "layout": "branch_post"}}


def config_of(model: Anatomy) -> Config:
    config = llama.config_of(model)
    del config["mlp_bias"]
    return config


RULES = (*llama.ENDS, *llama.ATTENTION, *qwen3.QK_NORMS, *llama.GATED, *POST_NORMS)
FAMILY = Family("olmo2", "Olmo2ForCausalLM", model_of, config_of, RULES)
