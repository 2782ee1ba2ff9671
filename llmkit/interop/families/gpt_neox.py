"""GPT-NeoX and Pythia (arXiv 2204.06745, 2304.01373): parallel branches, a quarter of each head turned, LayerNorm, biases.

Queries, keys and values are one matrix in the file, head by head.
"""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.family import Family
from llmkit.interop.weights import JoinedByHead, Rotary, Rule, Then
from llmkit.interop.wording import Config, activation, activation_name, rope, rope_parameters, sizes, sizes_config

RULES = (
    Rule("embedding.weight", "gpt_neox.embed_in.weight"),
    Rule("norm.{part}", "gpt_neox.final_layer_norm.{part}"),
    Rule("head.weight", "embed_out.weight"),
    Rule("blocks.{layer}.attention_norm.{part}", "gpt_neox.layers.{layer}.input_layernorm.{part}"),
    Rule("blocks.{layer}.ffn_norm.{part}", "gpt_neox.layers.{layer}.post_attention_layernorm.{part}"),
    Rule(
        ("blocks.{layer}.attention.query.{part}", "blocks.{layer}.attention.key.{part}", "blocks.{layer}.attention.value.{part}"),
        "gpt_neox.layers.{layer}.attention.query_key_value.{part}",
        Then((JoinedByHead(), Rotary(2))),
    ),
    Rule("blocks.{layer}.attention.output.{part}", "gpt_neox.layers.{layer}.attention.dense.{part}"),
    Rule("blocks.{layer}.ffn.up.{part}", "gpt_neox.layers.{layer}.mlp.dense_h_to_4h.{part}"),
    Rule("blocks.{layer}.ffn.down.{part}", "gpt_neox.layers.{layer}.mlp.dense_4h_to_h.{part}"),
)


def model_of(config: Config) -> Part:
    ffn = {"type": "mlp", "d_ff": config["intermediate_size"], "activation": activation(config["hidden_act"]), "bias": True}
    return {
        **sizes(config),
        "position": rope(config, partial=True),
        "block": {
            "attention": {"type": "mha", "n_heads": config["num_attention_heads"], "bias": config["attention_bias"]},
            "ffn": ffn,
            "norm": {"type": "layernorm", "eps": config["layer_norm_eps"]},
            "layout": "parallel" if config["use_parallel_residual"] else "pre",
        },
    }


def config_of(model: Anatomy) -> Config:
    layer = model.first
    return {
        **sizes_config(model),
        "num_attention_heads": layer.attention.get("n_heads", 1),
        "attention_bias": bool(layer.attention.get("bias", True)),
        "rope_parameters": {"partial_rotary_factor": 1.0, **rope_parameters(layer.position, partial=True)},
        "hidden_act": activation_name(layer.ffn, "gelu"),
        "intermediate_size": layer.ffn.get("d_ff", 4 * model.d_model),
        "layer_norm_eps": layer.norm.get("eps", 1e-5),
        "use_parallel_residual": layer.layout == "parallel",
    }


FAMILY = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    model_of,
    config_of,
    RULES,
    ignored=(r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",),
    prefix="gpt_neox.",
)
