"""Phi-3 and Phi-4 (arXiv 2404.14219, 2412.08905): Llama with LongRoPE and, in some sizes, partial rotary positions and a window.

Queries, keys and values are one matrix in the file, and so are a network's gate and what it gates.
"""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama, mistral
from llmkit.interop.family import Family
from llmkit.interop.weights import Joined, Rotary, Rule, Then
from llmkit.interop.wording import Config, rope, rope_parameters

FUSED = (
    Rule(
        ("blocks.{layer}.attention.query.weight", "blocks.{layer}.attention.key.weight", "blocks.{layer}.attention.value.weight"),
        "model.layers.{layer}.self_attn.qkv_proj.weight",
        Then((Joined(), Rotary(2))),
    ),
    Rule("blocks.{layer}.attention.output.weight", "model.layers.{layer}.self_attn.o_proj.weight"),
    Rule(("blocks.{layer}.ffn.gate.weight", "blocks.{layer}.ffn.up.weight"), "model.layers.{layer}.mlp.gate_up_proj.weight", Joined()),
    Rule("blocks.{layer}.ffn.down.weight", "model.layers.{layer}.mlp.down_proj.weight"),
)


def model_of(config: Config) -> Part:
    return mistral.model_of(config) | {"position": rope(config, partial=True)}


def config_of(model: Anatomy) -> Config:
    config, position = mistral.config_of(model), model.first.position
    # Phi-3 knows no scaling but LongRoPE.
    scaled = position.get("scaling", {}).get("type") == "longrope"
    config["rope_parameters"] = rope_parameters(position if scaled else position | {"scaling": {"type": "none"}}, partial=True)
    # A head's width is not written: transformers takes d_model / heads for the lists of LongRoPE, whatever else is said.
    del config["head_dim"]
    original = config["rope_parameters"].get("original_max_position_embeddings")
    return config | ({} if original is None else {"original_max_position_embeddings": original})


FAMILY = Family("phi3", "Phi3ForCausalLM", model_of, config_of, (*llama.ENDS, *FUSED, *llama.NORMS))
