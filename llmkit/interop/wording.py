"""How configurations word what several families share: sizes, heads, gated networks, rotary positions, kinds of layers. Each both ways."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmkit.core.errors import UserError
from llmkit.interop.anatomy import Anatomy, Layer, Part

Config = dict[str, Any]
"""A `config.json` as data, its defaults filled in."""

FULL, SLIDING = "full_attention", "sliding_attention"
"""What configurations call kinds of layers, in `layer_types`."""


KEYS = {
    "d_model": ("hidden_size", "n_embd"),
    "n_layers": ("num_hidden_layers", "n_layer"),
    "max_seq_len": ("max_position_embeddings", "n_positions"),
    "n_heads": ("num_attention_heads", "n_head"),
    "n_kv_heads": ("num_key_value_heads",),
    "head_width": ("head_dim",),
    "d_ff": ("intermediate_size", "n_inner"),
    "eps": ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps"),
    "window": ("sliding_window",),
    "theta": ("rope_theta",),
    "fraction": ("partial_rotary_factor",),
    "original_max_seq_len": ("original_max_position_embeddings",),
    "n_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "n_active": ("num_experts_per_tok",),
    "n_groups": ("n_group",),
    "n_active_groups": ("topk_group",),
}
"""What configurations call a parameter of ours: for messages about a configuration that makes no model."""


def reworded(text: str, config: Config) -> str:
    """A message about a spec, with the configuration's keys for our names."""
    known = {*config, *(config.get("rope_parameters") or ())}
    for name, keys in KEYS.items():
        own = next((key for key in keys if key in known), None)
        text = text if own is None else re.sub(rf"\b{name}\b", own, text)
    return text


def refuse(config: Config, key: str, expected: Any) -> None:
    """`UserError` where the configuration says anything but this: there is no component for it."""
    if config.get(key, expected) != expected:
        raise UserError(
            f"config.json: {key} is {config[key]!r}, for which llmkit has no component; of {config['model_type']} it reads {expected!r}"
        )


def sizes(config: Config) -> Part:
    """The numbers of a model."""
    return {
        "d_model": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "max_seq_len": config["max_position_embeddings"],
        "vocab_size": config["vocab_size"],
        "tie_embeddings": config["tie_word_embeddings"],
    }


def sizes_config(model: Anatomy) -> Config:
    """The numbers of a model, as a configuration names them."""
    return {
        "hidden_size": model.d_model,
        "num_hidden_layers": len(model.layers),
        "max_position_embeddings": model.max_seq_len,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_embeddings,
    }


def heads(config: Config, **more: Any) -> Part:
    """Grouped heads; `more` are the attention's other parameters."""
    count = config["num_attention_heads"]
    return {
        "type": "gqa",
        "n_heads": count,
        "n_kv_heads": config.get("num_key_value_heads") or count,
        "head_width": config.get("head_dim") or config["hidden_size"] // max(count, 1),
        **more,
    }


def heads_config(model: Anatomy) -> Config:
    """Grouped heads, as a configuration names them."""
    attention = model.first.attention
    count = attention.get("n_heads", 1)
    return {
        "num_attention_heads": count,
        "num_key_value_heads": attention.get("n_kv_heads", count),
        "head_dim": attention.get("head_width", model.d_model // count),
    }


GATES: dict[str, Part] = {
    "silu": {"type": "swiglu"},
    "swish": {"type": "swiglu"},
    "gelu": {"type": "geglu"},
    "gelu_pytorch_tanh": {"type": "geglu", "approximate": "tanh"},
    "gelu_new": {"type": "geglu", "approximate": "tanh"},
    "relu2": {"type": "reglu2"},
}

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "relu2": "relu2", "silu": "silu"}


def gated(activation: str, d_ff: int, *, bias: bool = False) -> Part:
    """A gated network by the name of its activation."""
    if activation not in GATES:
        raise UserError(f"config.json: there is no gated network with activation {activation!r}; llmkit has {', '.join(GATES)}")
    return {**GATES[activation], "d_ff": d_ff, "bias": bias}


def gate_name(ffn: Part) -> str:
    """The activation of a gated network; `silu` of anything else."""
    wanted = {"type": ffn["type"]} | ({"approximate": "tanh"} if ffn.get("approximate") == "tanh" else {})
    return next((name for name, part in GATES.items() if part == wanted), "silu")


def activation(name: str) -> str:
    """An activation of an ungated network."""
    if name not in ACTIVATIONS:
        raise UserError(f"config.json: there is no network with activation {name!r}; llmkit has {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def activation_name(ffn: Part, default: str) -> str:
    """The activation of an ungated network, as a configuration names it."""
    return next((name for name, own in ACTIVATIONS.items() if own == ffn.get("activation")), default)


def experts(config: Config, count: str, width: str, **more: Any) -> Part:
    """A mixture of experts; `count` and `width` are the family's keys of how many there are and how wide each is."""
    return {
        "type": "moe",
        "n_experts": config[count],
        "n_active": config["num_experts_per_tok"],
        "d_ff": config[width],
        "activation": activation(config["hidden_act"]),
        **more,
    }


def experts_config(ffn: Part, count: str, width: str) -> Config:
    """A mixture of experts, as a configuration names it."""
    return {
        count: ffn.get("n_experts", 2),
        "num_experts_per_tok": ffn.get("n_active", 2),
        width: ffn.get("d_ff", 1),
        "hidden_act": activation_name(ffn, "silu"),
    }


def rmsnorm(config: Config, kind: str = "rmsnorm") -> Part:
    """A root-mean-square norm, with the configuration's epsilon."""
    return {"type": kind, "eps": config["rms_norm_eps"]}


def rmsnorm_config(norm: Part) -> Config:
    """The epsilon of a norm."""
    return {"rms_norm_eps": norm.get("eps", 1e-6)}


SCALINGS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_max_seq_len": "original_max_position_embeddings",
    },
    "yarn": {
        "factor": "factor",
        "original_max_seq_len": "original_max_position_embeddings",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
    },
    # Its original context is `max_position_embeddings`: transformers knows no key for it.
    "dynamic": {"factor": "factor"},
    "longrope": {
        "short_factor": "short_factor",
        "long_factor": "long_factor",
        "original_max_seq_len": "original_max_position_embeddings",
        "factor": "factor",
        "attention_factor": "attention_factor",
    },
}
"""Scalings of frequencies: our parameter -> the configuration's, by name."""


def rope(config: Config, parameters: Config | None = None, *, partial: bool = False) -> Part:
    """A rotary position, from `rope_parameters`: the configuration's, or these of one kind of its layers.

    partial  whether the family turns a part of each head where it is asked to; transformers' other families do not read the factor
    """
    parameters = config["rope_parameters"] if parameters is None else parameters
    kind = parameters.get("rope_type", "default")
    part: Part = {"type": "rope", "theta": parameters["rope_theta"]}
    if partial and parameters.get("partial_rotary_factor", 1.0) != 1.0:
        part["fraction"] = parameters["partial_rotary_factor"]
    if kind == "default":
        return part
    if kind not in SCALINGS:
        raise UserError(f"config.json: rope_type {kind!r} has no scaling in llmkit; it has {', '.join(SCALINGS)}")
    values = parameters | _implied(kind, parameters, config["max_position_embeddings"])
    named = {own: values.get(theirs) for own, theirs in SCALINGS[kind].items()}
    if kind == "dynamic":
        named["original_max_seq_len"] = config["max_position_embeddings"]
    return part | {"scaling": {"type": kind} | {name: value for name, value in named.items() if value is not None}}


def _implied(kind: str, parameters: Config, max_seq_len: int) -> Config:
    """What a scaling says by leaving it out."""
    implied: Config = {}
    if kind in ("yarn", "longrope") and parameters.get("factor") is None:
        implied["factor"] = max_seq_len / parameters["original_max_position_embeddings"]
    if parameters.get("mscale") and parameters.get("mscale_all_dim") and parameters.get("attention_factor") is None:
        over, under = (temperature(parameters["factor"], parameters[name]) for name in ("mscale", "mscale_all_dim"))
        implied["attention_factor"] = over / under
    return implied


def temperature(factor: float, mscale: float) -> float:
    """YaRN's, for a context so much longer."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_parameters(position: Part, *, partial: bool = False) -> Config:
    """A rotary position as `rope_parameters`; that of any other position is a plain one. `partial` as in `rope`."""
    parameters: Config = {"rope_type": "default", "rope_theta": position.get("theta", 10000.0)}
    if partial and position.get("fraction", 1.0) != 1.0:
        parameters["partial_rotary_factor"] = position["fraction"]
    scaling = position.get("scaling", {"type": "none"})
    names = SCALINGS.get(scaling["type"])
    if names is None:
        return parameters
    values = {theirs: scaling[own] for own, theirs in names.items() if scaling.get(own) is not None}
    return parameters | {"rope_type": scaling["type"], **values}


def stack(kinds: Sequence[str], blocks: Mapping[str, Part]) -> Part:
    """Layers as a spec says them: one `block`, or what all share as `block`, then `blocks` and the shortest `pattern`.

    kinds   the kind of every layer
    blocks  the block of every kind
    """
    unknown = next((name for name in kinds if name not in blocks), None)
    if unknown is not None:
        raise UserError(f"config.json: llmkit has no component for layers of kind {unknown!r}; of this family it reads {', '.join(blocks)}")
    used = {name: blocks[name] for name in dict.fromkeys(kinds)}
    if len(used) == 1:
        return {"block": next(iter(used.values()))}
    first = next(iter(used.values()))
    shared = {key: value for key, value in first.items() if all(block.get(key) == value for block in used.values())}
    own = {name: {key: value for key, value in block.items() if key not in shared} for name, block in used.items()}
    return {"block": shared, "blocks": own, "pattern": _pattern(list(kinds))}


def _pattern(kinds: list[str]) -> Any:
    """The fewest names that say the kinds of all layers: some first, then some repeated."""
    count = len(kinds)
    lengths = [
        (first, period)
        for first in range(count)
        for period in range(1, count - first + 1)
        if all(kinds[index] == kinds[index - period] for index in range(first + period, count))
    ]
    first, period = min(lengths, key=lambda pair: (sum(pair), pair))
    repeat = kinds[first : first + period]
    return {"first": kinds[:first], "repeat": repeat} if first else repeat


def layer_types(model: Anatomy) -> list[str]:
    """`layer_types`: which layers slide."""
    return [SLIDING if layer.attention.get("window") is not None else FULL for layer in model.layers]


def window(model: Anatomy) -> int | None:
    """The first window that any layer has."""
    return next((size for layer in model.layers if (size := layer.attention.get("window")) is not None), None)


def one_of(model: Anatomy, kind: str) -> Layer:
    """The first layer of a kind of `layer_types`, else the first of all."""
    return next((layer for layer, name in zip(model.layers, layer_types(model), strict=True) if name == kind), model.first)
