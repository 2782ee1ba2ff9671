"""Mistral (arXiv 2310.06825): Llama with a sliding window in every layer."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama
from llmkit.interop.family import Family
from llmkit.interop.wording import Config, heads, window


def model_of(config: Config) -> Part:
    model = llama.model_of(config | {"attention_bias": False, "mlp_bias": False})
    return model | {"block": model["block"] | {"attention": heads(config, window=config["sliding_window"])}}


def config_of(model: Anatomy) -> Config:
    config = llama.config_of(model)
    del config["attention_bias"], config["mlp_bias"]
    return config | {"sliding_window": window(model)}


FAMILY = Family("mistral", "MistralForCausalLM", model_of, config_of, llama.FAMILY.rules)
