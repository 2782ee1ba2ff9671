"""SmolLM3 (Hugging Face 2025): Llama in which every fourth layer has no positions (NoPE, arXiv 2501.18795)."""

from __future__ import annotations

from llmkit.interop.anatomy import Anatomy, Layer, Part
from llmkit.interop.families import llama
from llmkit.interop.family import Family
from llmkit.interop.wording import FULL, SLIDING, Config, heads, layer_types, rope_parameters, stack, window

NAMES = {(True, FULL): "rotary", (True, SLIDING): "rotary_sliding", (False, FULL): "nope", (False, SLIDING): "nope_sliding"}
"""What blocks are called in a spec: whether they turn, and what they see."""


def model_of(config: Config) -> Part:
    model = llama.model_of(config)
    block = model.pop("block")
    blocks = {}
    for (turns, kind), name in NAMES.items():
        size = config["sliding_window"] if kind == SLIDING else None
        attention = heads(config, bias=config["attention_bias"], window=size)
        blocks[name] = block | {"attention": attention, "position": None if turns else "none"}
    kinds = [NAMES.get((bool(turns), kind), kind) for turns, kind in zip(config["no_rope_layers"], config["layer_types"], strict=False)]
    return model | stack(kinds, blocks)


def config_of(model: Anatomy) -> Config:
    size = window(model)
    turning = next((layer for layer in model.layers if _turns(layer)), model.first)
    return llama.config_of(model) | {
        "rope_parameters": rope_parameters(turning.position),
        "no_rope_layers": [int(_turns(layer)) for layer in model.layers],
        "use_sliding_window": size is not None,
        "sliding_window": size,
        "layer_types": layer_types(model),
    }


def _turns(layer: Layer) -> bool:
    return bool(layer.position["type"] != "none")


FAMILY = Family("smollm3", "SmolLM3ForCausalLM", model_of, config_of, llama.FAMILY.rules)
