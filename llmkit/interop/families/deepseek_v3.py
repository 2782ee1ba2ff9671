"""DeepSeek-V3 (arXiv 2412.19437): latent attention, and after some dense layers mixtures of experts balanced by a bias instead of a loss.

Its layer of multi-token prediction, which files hold after the last one, is left out, as transformers leaves it out.
"""

from __future__ import annotations

import math

from llmkit.interop.anatomy import Anatomy, Layer, Part
from llmkit.interop.families import llama, qwen3_moe
from llmkit.interop.family import Family
from llmkit.interop.weights import Joined, JoinedByHead, Rule
from llmkit.interop.wording import (
    Config,
    experts,
    experts_config,
    gate_name,
    gated,
    refuse,
    rmsnorm,
    rmsnorm_config,
    rope,
    rope_parameters,
    sizes,
    sizes_config,
    stack,
    temperature,
)

LATENT = (
    Rule("blocks.{layer}.attention.query.weight", "model.layers.{layer}.self_attn.q_proj.weight"),
    Rule("blocks.{layer}.attention.query_down.weight", "model.layers.{layer}.self_attn.q_a_proj.weight"),
    Rule("blocks.{layer}.attention.query_norm.weight", "model.layers.{layer}.self_attn.q_a_layernorm.weight"),
    Rule("blocks.{layer}.attention.query_up.weight", "model.layers.{layer}.self_attn.q_b_proj.weight"),
    Rule(
        ("blocks.{layer}.attention.latent_down.weight", "blocks.{layer}.attention.rotary_key.weight"),
        "model.layers.{layer}.self_attn.kv_a_proj_with_mqa.weight",
        Joined(),
    ),
    Rule("blocks.{layer}.attention.latent_norm.weight", "model.layers.{layer}.self_attn.kv_a_layernorm.weight"),
    Rule(
        ("blocks.{layer}.attention.key_up.weight", "blocks.{layer}.attention.value_up.weight"),
        "model.layers.{layer}.self_attn.kv_b_proj.weight",
        JoinedByHead(),
    ),
    Rule("blocks.{layer}.attention.output.weight", "model.layers.{layer}.self_attn.o_proj.weight"),
)
EXPERTS = (
    *qwen3_moe.EXPERTS,
    Rule("blocks.{layer}.ffn.router.balance_bias", "model.layers.{layer}.mlp.gate.e_score_correction_bias"),
    Rule("blocks.{layer}.ffn.shared.gate.weight", "model.layers.{layer}.mlp.shared_experts.gate_proj.weight"),
    Rule("blocks.{layer}.ffn.shared.up.weight", "model.layers.{layer}.mlp.shared_experts.up_proj.weight"),
    Rule("blocks.{layer}.ffn.shared.down.weight", "model.layers.{layer}.mlp.shared_experts.down_proj.weight"),
)
COUNT, WIDTH = "n_routed_experts", "moe_intermediate_size"
LATENT_NORM: Part = {"type": "rmsnorm", "eps": 1e-6}
"""transformers takes this epsilon here, whatever `rms_norm_eps` says."""


def model_of(config: Config) -> Part:
    refuse(config, "attention_bias", False)
    dense = {
        "attention": attention(config),
        "ffn": gated(config["hidden_act"], config["intermediate_size"]),
        "norm": rmsnorm(config),
        "layout": "pre",
    }
    first = min(config["first_k_dense_replace"], config["num_hidden_layers"])
    kinds = ["dense"] * first + ["sparse"] * (config["num_hidden_layers"] - first)
    return {
        **sizes(config),
        "position": rope(config) | {"layout": "interleaved" if config["rope_interleave"] else "half"},
        **stack(kinds, {"dense": dense, "sparse": dense | {"ffn": mixture(config)}}),
    }


def attention(config: Config) -> Part:
    """Latent attention. YaRN's temperature, where it is asked for in all dimensions, is a factor on the scores."""
    turned, unturned = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    rotary = config["rope_parameters"]
    hotter = temperature(rotary.get("factor", 1.0), rotary["mscale_all_dim"]) if rotary.get("mscale_all_dim") else 1.0
    return {
        "type": "mla",
        "n_heads": config["num_attention_heads"],
        "q_lora_rank": config["q_lora_rank"],
        "kv_lora_rank": config["kv_lora_rank"],
        "nope_head_width": unturned,
        "rope_head_width": turned,
        "value_head_width": config["v_head_dim"],
        "norm": LATENT_NORM,
        "scale": hotter**2 * (turned + unturned) ** -0.5,
    }


def mixture(config: Config) -> Part:
    """Experts chosen by sigmoid and bias, group by group, and a shared one. The bias stays as it is in further training."""
    return experts(
        config,
        COUNT,
        WIDTH,
        score="sigmoid",
        normalise=config["norm_topk_prob"],
        weight_scale=config["routed_scaling_factor"],
        n_groups=config["n_group"],
        n_active_groups=config["topk_group"],
        shared_d_ff=config[WIDTH] * config["n_shared_experts"] or None,
        balance_loss=0.0,
        bias_rate=0.0,
    )


def config_of(model: Anatomy) -> Config:
    dense: Part = next((layer.ffn for layer in model.layers if not _is_sparse(layer)), {"type": "swiglu"})
    sparse: Part = next((layer.ffn for layer in model.layers if _is_sparse(layer)), {"type": "moe"})
    leading = next((index for index, layer in enumerate(model.layers) if _is_sparse(layer)), len(model.layers))
    return {
        **sizes_config(model),
        **rmsnorm_config(model.first.norm),
        **attention_config(model.first),
        **experts_config(sparse, COUNT, WIDTH),
        "hidden_act": gate_name(dense),
        "intermediate_size": dense.get("d_ff", 4 * model.d_model),
        "first_k_dense_replace": leading,
        "norm_topk_prob": sparse.get("normalise", True),
        "routed_scaling_factor": sparse.get("weight_scale", 1.0),
        "n_group": sparse.get("n_groups", 1),
        "topk_group": sparse.get("n_active_groups", 1),
        "n_shared_experts": (sparse.get("shared_d_ff") or 0) // (sparse.get("d_ff") or 1),
        "num_nextn_predict_layers": 0,
    }


def attention_config(layer: Layer) -> Config:
    """Latent attention, as a configuration names it."""
    part = layer.attention
    count, turned, unturned = part.get("n_heads", 1), part.get("rope_head_width", 2), part.get("nope_head_width", 1)
    rotary = rope_parameters(layer.position)
    if rotary["rope_type"] == "yarn" and rotary["factor"] > 1:
        rotary |= _temperatures(rotary, (part.get("scale") or 1.0) * (turned + unturned) ** 0.5)
    return {
        "num_attention_heads": count,
        "num_key_value_heads": count,
        "q_lora_rank": part.get("q_lora_rank"),
        "kv_lora_rank": part.get("kv_lora_rank", 1),
        "qk_rope_head_dim": turned,
        "qk_nope_head_dim": unturned,
        "v_head_dim": part.get("value_head_width", 1),
        "rope_parameters": rotary,
        "rope_interleave": layer.interleaved,
        "attention_bias": False,
    }


def _temperatures(rotary: Config, hotter: float) -> Config:
    """YaRN's `mscale` and `mscale_all_dim`, by which scores are `hotter` and the rotary position has its attention factor."""
    logarithm = 0.1 * math.log(rotary["factor"])
    over_all = (math.sqrt(hotter) - 1) / logarithm
    if not over_all:
        return {}
    factor = rotary.pop("attention_factor", None) or 1.0 + logarithm
    over = (factor * (1.0 + over_all * logarithm) - 1) / logarithm
    # Twelve digits: what was 1 comes back as 1.
    return {"mscale": float(f"{over:.12g}"), "mscale_all_dim": float(f"{over_all:.12g}")}


def _is_sparse(layer: Layer) -> bool:
    return bool(layer.ffn["type"] == "moe")


FAMILY = Family(
    "deepseek_v3",
    "DeepseekV3ForCausalLM",
    model_of,
    config_of,
    (*llama.ENDS, *LATENT, *llama.GATED, *EXPERTS, *llama.NORMS),
    ignored=(r"rotary_emb\.inv_freq$", r"^model\.layers\.61\."),
)
