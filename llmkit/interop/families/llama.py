"""Llama (arXiv 2302.13971, 2307.09288, 2407.21783): rotary positions, RMSNorm before each branch, a gated network, grouped heads.

Most later families are this one with something added, so they begin with its rows.
"""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.family import Family
from llmkit.interop.weights import Rotary, Rule
from llmkit.interop.wording import (
    Config,
    gate_name,
    gated,
    heads,
    heads_config,
    rmsnorm,
    rmsnorm_config,
    rope,
    rope_parameters,
    sizes,
    sizes_config,
)

ENDS = (
    Rule("embedding.weight", "model.embed_tokens.weight"),
    Rule("norm.weight", "model.norm.weight"),
    Rule("head.weight", "lm_head.weight"),
)
ATTENTION = (
    Rule("blocks.{layer}.attention.query.{part}", "model.layers.{layer}.self_attn.q_proj.{part}", Rotary()),
    Rule("blocks.{layer}.attention.key.{part}", "model.layers.{layer}.self_attn.k_proj.{part}", Rotary()),
    Rule("blocks.{layer}.attention.value.{part}", "model.layers.{layer}.self_attn.v_proj.{part}"),
    Rule("blocks.{layer}.attention.output.{part}", "model.layers.{layer}.self_attn.o_proj.{part}"),
)
GATED = (
    Rule("blocks.{layer}.ffn.gate.{part}", "model.layers.{layer}.mlp.gate_proj.{part}"),
    Rule("blocks.{layer}.ffn.up.{part}", "model.layers.{layer}.mlp.up_proj.{part}"),
    Rule("blocks.{layer}.ffn.down.{part}", "model.layers.{layer}.mlp.down_proj.{part}"),
)
NORMS = (
    Rule("blocks.{layer}.attention_norm.weight", "model.layers.{layer}.input_layernorm.weight"),
    Rule("blocks.{layer}.ffn_norm.weight", "model.layers.{layer}.post_attention_layernorm.weight"),
)


def model_of(config: Config) -> Part:
    return {
        **sizes(config),
        "position": rope(config),
        "block": {
            "attention": heads(config, bias=config["attention_bias"]),
            "ffn": gated(config["hidden_act"], config["intermediate_size"], bias=config["mlp_bias"]),
            "norm": rmsnorm(config),
            "layout": "pre",
        },
    }


def config_of(model: Anatomy) -> Config:
    layer = model.first
    return {
        **sizes_config(model),
        **heads_config(model),
        **rmsnorm_config(layer.norm),
        "rope_parameters": rope_parameters(layer.position),
        "attention_bias": layer.attention.get("bias") is True,
        "hidden_act": gate_name(layer.ffn),
        "intermediate_size": layer.ffn.get("d_ff", 4 * model.d_model),
        "mlp_bias": bool(layer.ffn.get("bias", False)),
    }


FAMILY = Family("llama", "LlamaForCausalLM", model_of, config_of, (*ENDS, *ATTENTION, *GATED, *NORMS))
