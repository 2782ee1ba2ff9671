"""Qwen3 with mixtures of experts (arXiv 2505.09388) in all layers, or in some."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Layer, Part
from llmkit.interop.families import llama, qwen3
from llmkit.interop.family import Family
from llmkit.interop.weights import Rule, Stacked
from llmkit.interop.wording import GATES, Config, experts, experts_config, gate_name, stack, window

EXPERTS = (
    Rule("blocks.{layer}.ffn.router.weight", "model.layers.{layer}.mlp.gate.weight"),
    Rule("blocks.{layer}.ffn.experts.gate", "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight", Stacked()),
    Rule("blocks.{layer}.ffn.experts.up", "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight", Stacked()),
    Rule("blocks.{layer}.ffn.experts.down", "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight", Stacked()),
)
COUNT, WIDTH = "num_local_experts", "moe_intermediate_size"


def model_of(config: Config) -> Part:
    model = llama.model_of(config | {"mlp_bias": False})
    size = config["sliding_window"] if config["use_sliding_window"] else None
    dense = model.pop("block") | {"attention": qwen3.attention(config, window=size)}
    mixture = experts(config, COUNT, WIDTH, normalise=config["norm_topk_prob"], balance_loss=config["router_aux_loss_coef"])
    every, never = config["decoder_sparse_step"], config["mlp_only_layers"] or ()
    kinds = ["dense" if index in never or (index + 1) % every else "sparse" for index in range(config["num_hidden_layers"])]
    return model | stack(kinds, {"dense": dense, "sparse": dense | {"ffn": mixture}})


def config_of(model: Anatomy) -> Config:
    sparse = next((layer.ffn for layer in model.layers if _is_sparse(layer)), {"type": "moe"})
    dense = next((layer.ffn for layer in model.layers if not _is_sparse(layer)), {"type": "swiglu"})
    size = window(model)
    config = llama.config_of(model) | experts_config(sparse, COUNT, WIDTH)
    del config["mlp_bias"]
    return config | {
        # One activation for both kinds of layers, so that it has to be a gate's.
        "hidden_act": config["hidden_act"] if "activation" in sparse and config["hidden_act"] in GATES else gate_name(dense),
        "intermediate_size": dense.get("d_ff", 4 * model.d_model),
        "norm_topk_prob": sparse.get("normalise", True),
        "router_aux_loss_coef": sparse.get("balance_loss", 0.0),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [index for index, layer in enumerate(model.layers) if not _is_sparse(layer)],
        "use_sliding_window": size is not None,
        "sliding_window": size,
    }


def _is_sparse(layer: Layer) -> bool:
    return bool(layer.ffn["type"] == "moe")


FAMILY = Family("qwen3_moe", "Qwen3MoeForCausalLM", model_of, config_of, (*llama.FAMILY.rules, *qwen3.QK_NORMS, *EXPERTS))
