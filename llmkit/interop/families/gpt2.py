"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases everywhere.

Its matrices are (in, out) in the file, and queries, keys and values one matrix.
"""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.family import Family
from llmkit.interop.weights import Joined, Rule, Then, Transposed
from llmkit.interop.wording import Config, activation, activation_name, refuse

RULES = (
    Rule("embedding.weight", "transformer.wte.weight"),
    Rule("position.weight", "transformer.wpe.weight"),
    Rule("norm.{part}", "transformer.ln_f.{part}"),
    Rule("head.weight", "lm_head.weight"),
    Rule("blocks.{layer}.attention_norm.{part}", "transformer.h.{layer}.ln_1.{part}"),
    Rule("blocks.{layer}.ffn_norm.{part}", "transformer.h.{layer}.ln_2.{part}"),
    Rule(
        ("blocks.{layer}.attention.query.{part}", "blocks.{layer}.attention.key.{part}", "blocks.{layer}.attention.value.{part}"),
        "transformer.h.{layer}.attn.c_attn.{part}",
        Then((Transposed(), Joined())),
    ),
    Rule("blocks.{layer}.attention.output.{part}", "transformer.h.{layer}.attn.c_proj.{part}", Transposed()),
    Rule("blocks.{layer}.ffn.up.{part}", "transformer.h.{layer}.mlp.c_fc.{part}", Transposed()),
    Rule("blocks.{layer}.ffn.down.{part}", "transformer.h.{layer}.mlp.c_proj.{part}", Transposed()),
)


def model_of(config: Config) -> Part:
    refuse(config, "scale_attn_weights", True)
    refuse(config, "scale_attn_by_inverse_layer_idx", False)
    refuse(config, "add_cross_attention", False)
    return {
        "d_model": config["n_embd"],
        "n_layers": config["n_layer"],
        "max_seq_len": config["n_positions"],
        "vocab_size": config["vocab_size"],
        "tie_embeddings": config["tie_word_embeddings"],
        "position": "learned",
        "block": {
            "attention": {"type": "mha", "n_heads": config["n_head"], "bias": True},
            "ffn": {
                "type": "mlp",
                "d_ff": config["n_inner"] or 4 * config["n_embd"],
                "activation": activation(config["activation_function"]),
                "bias": True,
            },
            "norm": {"type": "layernorm", "eps": config["layer_norm_epsilon"]},
            "layout": "pre",
        },
    }


def config_of(model: Anatomy) -> Config:
    layer = model.first
    width = layer.ffn.get("d_ff")
    return {
        "n_embd": model.d_model,
        "n_layer": len(model.layers),
        "n_positions": model.max_seq_len,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_embeddings,
        "n_head": layer.attention.get("n_heads", 1),
        "n_inner": None if width == 4 * model.d_model else width,
        "activation_function": activation_name(layer.ffn, "gelu_new"),
        "layer_norm_epsilon": layer.norm.get("eps", 1e-5),
    }


FAMILY = Family(
    "gpt2", "GPT2LMHeadModel", model_of, config_of, RULES, ignored=(r"\.attn\.bias$", r"\.attn\.masked_bias$"), prefix="transformer."
)
