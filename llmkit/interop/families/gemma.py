"""Gemma (arXiv 2403.08295): Llama with embeddings scaled by sqrt(d_model), scales of norms that are 1 + weight, and GELU as the gate."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama
from llmkit.interop.family import Family
from llmkit.interop.wording import Config, refuse, rmsnorm


def norm(config: Config) -> Part:
    """Gemma's norm."""
    return rmsnorm(config) | {"zero_centred": True}


def model_of(config: Config) -> Part:
    # Anything but absent or false would let tokens see those after them.
    refuse(config | {"use_bidirectional_attention": bool(config.get("use_bidirectional_attention"))}, "use_bidirectional_attention", False)
    model = llama.model_of(config | {"mlp_bias": False})
    return model | {"embedding_scale": "sqrt", "block": model["block"] | {"norm": norm(config)}}


def config_of(model: Anatomy) -> Config:
    config = llama.config_of(model)
    del config["mlp_bias"]
    return config


FAMILY = Family("gemma", "GemmaForCausalLM", model_of, config_of, llama.FAMILY.rules)
