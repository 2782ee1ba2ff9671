"""Qwen2 (arXiv 2407.10671): Llama with biases on queries, keys and values, and a sliding window in some layers where it is asked for."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Part
from llmkit.interop.families import llama
from llmkit.interop.family import Family
from llmkit.interop.wording import FULL, SLIDING, Config, heads, layer_types, stack, window


def model_of(config: Config) -> Part:
    model = llama.model_of(config | {"attention_bias": False, "mlp_bias": False})
    block = model.pop("block")
    blocks = {
        name: block | {"attention": heads(config, bias="qkv", window=size)}
        for name, size in ((FULL, None), (SLIDING, config["sliding_window"]))
    }
    return model | stack(config["layer_types"], blocks)


def config_of(model: Anatomy) -> Config:
    config = llama.config_of(model)
    del config["attention_bias"], config["mlp_bias"]
    return config | windows_config(model)


def windows_config(model: Anatomy) -> Config:
    """A window in some layers, as Qwen's configurations name it."""
    size = window(model)
    return {"use_sliding_window": size is not None, "sliding_window": size, "layer_types": layer_types(model)}


FAMILY = Family("qwen2", "Qwen2ForCausalLM", model_of, config_of, llama.FAMILY.rules)
