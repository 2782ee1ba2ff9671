"""Architectures of llama.cpp's: what a GGUF file says of a model, how its tensors lie, and what neither can say.

An architecture is a family of the hub's with other names: the file's tensors are the family's, renamed by the package `gguf`, some with an
operation in between; its metadata is the family's configuration, renamed here. llama.cpp has no key for much that a configuration says (an
activation, which layers slide): it has one value, and any other is refused.

Keys are those of the format's specification, without the architecture's name that goes before each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.interop.anatomy import Layer, anatomy
from llmkit.interop.family import Family, families
from llmkit.interop.huggingface import filled, read_config
from llmkit.interop.weights import Operation, Shape, Transposed
from llmkit.interop.wording import FULL, SLIDING, Config

Metadata = dict[str, int | float | str]


class Neighbours(Operation):
    """Rows of heads that are turned: pairs are neighbours in the file, and halves in the family's tensors."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return [self._repaired(tensor, layer, (-1, 2)) for tensor in theirs]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return [self._repaired(tensor, layer, (2, -1)) for tensor in ours]

    def _repaired(self, tensor: Tensor, layer: Layer, pairs: tuple[int, int]) -> Tensor:
        heads = torch.unflatten(tensor, 0, (-1, layer.attention["head_width"]))
        return torch.unflatten(heads, 1, pairs).transpose(1, 2).flatten(0, 2)


class Raised(Operation):
    """Scales of norms: the whole scale in the file, what it has beyond 1 in the family's tensors (Gemma)."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return [tensor - 1 for tensor in theirs]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return [tensor + 1 for tensor in ours]


@dataclass(frozen=True)
class Architecture:
    """One entry.

    name        `general.architecture`, and what its keys begin with
    family      of the hub, whose configuration and tensors it has
    metadata    a configuration -> the file's keys
    fixed       settings for which llama.cpp has one value, or that follow from others: configuration -> what they have to be
    unread      settings that lie in the file and that transformers does not read from there: it has to be told
    operations  what lies between the family's tensors and the file's: a regular expression of the file's names -> the operation
    """

    name: str
    family: Family
    metadata: Callable[[Config], Metadata]
    fixed: Callable[[Config], Config]
    unread: tuple[str, ...] = ()
    operations: Mapping[str, Operation] = field(default_factory=dict)

    def config(self, spec: Spec) -> Config:
        """The family's configuration of a spec, its defaults filled in."""
        return filled(self.family.config(anatomy(spec)))

    def told(self, spec: Spec, file: Path) -> Config:
        """What transformers has to be told of a file of this spec: of the `unread` settings those in which it is mistaken."""
        wanted, found = self.config(spec), read_config(file)
        return {key: wanted[key] for key in self.unread if key in wanted and found.get(key) != wanted[key]}

    def refusals(self, spec: Spec) -> list[str]:
        """Why a spec cannot be said, one sentence a setting; none where it can."""
        found = self.family.disagreements(spec)
        if found:
            return [f"{one.address}: the spec has {_written(one.value)}, {self.name} has {_written(one.theirs)}" for one in found]
        config = self.config(spec)
        fixed = [
            f"{key}: the model has {_written(config.get(key))}, llama.cpp's {self.name} has {_written(value)}"
            for key, value in self.fixed(config).items()
            if config.get(key) != value
        ]
        return [*fixed, *_scaling_refusals(config)]


def architectures() -> dict[str, Architecture]:
    """Every architecture by its name, the plainest first: of two that can say a spec, the earlier is taken."""
    known = families()
    turned = {r"\.attn_[qk]\.": Neighbours()}
    raised: dict[str, Operation] = {r"norm\.weight$": Raised()}
    matrices = {r"\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight$": Transposed()}
    gemma_unread = ("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "rope_parameters", "layer_types")
    every = (
        Architecture("llama", known["llama"], _llama, _silu, ("attention_bias", "mlp_bias", "rope_parameters"), turned),
        Architecture("qwen2", known["qwen2"], _llama, _no_windows, ("head_dim", "rope_parameters")),
        Architecture("qwen3", known["qwen3"], _llama, _no_qwen_biases, ("head_dim", "rope_parameters")),
        Architecture("gpt2", known["gpt2"], _gpt2, _gelu, ("n_positions", "n_inner", "vocab_size"), matrices),
        Architecture("gemma2", known["gemma2"], _gemma2, _gemma2_fixed, gemma_unread, raised),
        Architecture("gemma3", known["gemma3_text"], _gemma3, _gemma3_fixed, gemma_unread, raised),
    )
    return {one.name: one for one in every}


def architecture_of_spec(spec: Spec, name: str | None = None) -> Architecture:
    """The architecture that says this spec, the plainest unless named. `UserError` with what is in the way."""
    known = architectures()
    if name is not None and name not in known:
        raise UserError(f"llmkit writes no GGUF architecture {name!r}; it writes {', '.join(known)}")
    refused: list[tuple[str, list[str]]] = []
    for one in known.values() if name is None else [known[name]]:
        reasons = one.refusals(spec)
        if not reasons:
            return one
        refused.append((one.name, reasons))
    nearest, reasons = min(refused, key=lambda pair: len(pair[1]))
    listed = "\n".join(f"  {reason}" for reason in reasons)
    if name is not None:
        raise UserError(f"llama.cpp's {name} cannot express {spec.name!r}; this is in the way:\n{listed}")
    raise UserError(f"no GGUF architecture can express {spec.name!r}; the nearest is {nearest}, where this is in the way:\n{listed}")


def _sizes(config: Config) -> Metadata:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    return {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.dimension_count": width,
        "vocab_size": config["vocab_size"],
    }


def _llama(config: Config) -> Metadata:
    return _sizes(config) | _rotary(config["rope_parameters"])


def _gemma2(config: Config) -> Metadata:
    return _llama(config) | {
        "attn_logit_softcapping": config["attn_logit_softcapping"],
        "final_logit_softcapping": config["final_logit_softcapping"],
        "attention.sliding_window": config["sliding_window"],
    }


def _gemma3(config: Config) -> Metadata:
    return _sizes(config) | _rotary(config["rope_parameters"][FULL]) | {"attention.sliding_window": config["sliding_window"]}


def _gpt2(config: Config) -> Metadata:
    return {
        "context_length": config["n_positions"],
        "embedding_length": config["n_embd"],
        "block_count": config["n_layer"],
        "feed_forward_length": config["n_inner"] or 4 * config["n_embd"],
        "attention.head_count": config["n_head"],
        "attention.layer_norm_epsilon": config["layer_norm_epsilon"],
        "vocab_size": config["vocab_size"],
    }


def _rotary(parameters: Config) -> Metadata:
    """A rotary position. Llama 3.1's scaling is no metadata but a tensor of factors, `rope_freqs.weight`."""
    base: Metadata = {"rope.freq_base": float(parameters["rope_theta"])}
    kind = parameters.get("rope_type", "default")
    if kind not in ("linear", "yarn"):
        return base
    scaled = base | {"rope.scaling.type": kind, "rope.scaling.factor": float(parameters["factor"])}
    if kind == "linear":
        return scaled
    return scaled | {
        "rope.scaling.original_context_length": parameters["original_max_position_embeddings"],
        "rope.scaling.yarn_beta_fast": float(parameters.get("beta_fast") or 32.0),
        "rope.scaling.yarn_beta_slow": float(parameters.get("beta_slow") or 1.0),
    }


SCALINGS = ("default", "linear", "llama3", "yarn")
"""Scalings of frequencies that llama.cpp computes as transformers does."""


def _scaling_refusals(config: Config) -> Iterator[str]:
    parameters = config.get("rope_parameters") or {}
    for one in (parameters, *(value for value in parameters.values() if isinstance(value, dict))):
        kind = one.get("rope_type", "default")
        if kind not in SCALINGS:
            yield f"rope_type: the model has {kind}, llama.cpp's files have {', '.join(SCALINGS)}"
        if kind == "yarn" and one.get("attention_factor") is not None:
            yield f"attention_factor: the model has {one['attention_factor']}, llama.cpp takes YaRN's own; leave it out of the spec"
        if kind == "yarn" and one.get("truncate") is False:
            yield "truncate: the model has False, llama.cpp rounds the ends of YaRN's band; leave it out of the spec"


def _silu(config: Config) -> Config:
    return {"hidden_act": "silu"}


def _no_windows(config: Config) -> Config:
    return {"hidden_act": "silu", "use_sliding_window": False}


def _no_qwen_biases(config: Config) -> Config:
    return _no_windows(config) | {"attention_bias": False}


def _gelu(config: Config) -> Config:
    return {"activation_function": "gelu_new"}


def _gemma(config: Config, period: int) -> Config:
    count = config["num_hidden_layers"]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": config["head_dim"],
        "layer_types": [FULL if (index + 1) % period == 0 else SLIDING for index in range(count)],
    }


def _gemma2_fixed(config: Config) -> Config:
    capped = {key: config[key] or "a number" for key in ("attn_logit_softcapping", "final_logit_softcapping")}
    return _gemma(config, 2) | capped


def _gemma3_fixed(config: Config) -> Config:
    sliding = {"rope_type": "default", "rope_theta": 10000.0}
    return _gemma(config, 6) | {
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_parameters": config["rope_parameters"] | {SLIDING: sliding},
    }


def _written(value: Any) -> str:
    return "none" if value is None else str(value)
