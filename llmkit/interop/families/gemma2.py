"""Gemma 2 (arXiv 2408.00118): Gemma with norms on both sides of a branch, soft-caps on scores and logits, every second layer sliding."""

from __future__ import annotations

from llmkit.core.errors import UserError
from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import gemma, llama
from llmkit.interop.family import Family
from llmkit.interop.weights import Rule
from llmkit.interop.wording import FULL, SLIDING, Config, heads, layer_types, stack, window

SANDWICH = (
    Rule("blocks.{layer}.attention_norm.weight", "model.layers.{layer}.input_layernorm.weight"),
    Rule("blocks.{layer}.attention_post_norm.weight", "model.layers.{layer}.post_attention_layernorm.weight"),
    Rule("blocks.{layer}.ffn_norm.weight", "model.layers.{layer}.pre_feedforward_layernorm.weight"),
    Rule("blocks.{layer}.ffn_post_norm.weight", "model.layers.{layer}.post_feedforward_layernorm.weight"),
)


def model_of(config: Config) -> Part:
    model = gemma.model_of(config | {"hidden_act": config["hidden_activation"]})
    block = model.pop("block") | {"layout": "sandwich"}
    blocks = {kind: block | {"attention": attention(config, kind)} for kind in (FULL, SLIDING)}
    return model | {"logit_softcap": config["final_logit_softcapping"]} | stack(config["layer_types"], blocks)


def attention(config: Config, kind: str) -> Part:
    """The attention of a layer of this kind."""
    if config["query_pre_attn_scalar"] <= 0:
        raise UserError(f"config.json: query_pre_attn_scalar is {config['query_pre_attn_scalar']}; it must be greater than 0")
    return heads(
        config,
        bias=config["attention_bias"],
        window=config["sliding_window"] if kind == SLIDING else None,
        scale=config["query_pre_attn_scalar"] ** -0.5,
        softcap=config["attn_logit_softcapping"],
    )


def config_of(model: Anatomy) -> Config:
    config, first = gemma.config_of(model), model.first.attention
    return config | {
        "hidden_activation": config.pop("hidden_act"),
        # transformers takes whole numbers only, and none is nearer to nothing than 1.
        "query_pre_attn_scalar": max(1, round((first.get("scale") or 1.0) ** -2)),
        "attn_logit_softcapping": first.get("softcap"),
        "final_logit_softcapping": model.logit_softcap,
        "sliding_window": window(model),
        "layer_types": layer_types(model),
    }


FAMILY = Family("gemma2", "Gemma2ForCausalLM", model_of, config_of, (*llama.ENDS, *llama.ATTENTION, *llama.GATED, *SANDWICH))
