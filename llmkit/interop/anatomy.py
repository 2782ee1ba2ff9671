"""What a spec means, layer by layer: the form in which specs are compared, and from which a configuration is written.

Two specs that make the same function have the same anatomy: `mha` with 4 heads is `gqa` with 4 of 4, a width that was left out is the
width that follows, a position is where it works. What only training reads (initial values, losses of a router) is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmkit.core.component import Chosen
from llmkit.core.slot import plain
from llmkit.core.spec import BlockSpec, ModelSpec, Spec

Part = dict[str, Any]
"""A component as YAML writes it: `type`, and every parameter."""

NOWHERE: Part = {"type": "none"}

TRAINING = {"moe": ("balance_loss", "z_loss")}
"""Parameters that only training reads, by component."""


@dataclass(frozen=True)
class Layer:
    """One layer.

    address           of its block in the spec
    position_address  of its position: its block's own, or the model's
    interleaved       whether its rotary pairs are neighbours, which an export puts in halves
    """

    address: str
    position_address: str
    attention: Part
    ffn: Part
    norm: Part
    position: Part
    layout: str
    shared_norm: bool
    residual_scale: float
    interleaved: bool

    @property
    def rotary_width(self) -> int:
        """Channels of a head that a rotary position turns."""
        return int(self.attention["head_width"] * self.position.get("fraction", 1.0))

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Every slot and setting that decides what the layer computes, with its address in the spec."""
        yield f"{self.address}.ffn", {name: value for name, value in self.ffn.items() if name not in TRAINING.get(self.ffn["type"], ())}
        yield self.position_address, self.position
        for name in ("attention", "norm", "layout", "shared_norm", "residual_scale"):
            yield f"{self.address}.{name}", getattr(self, name)


@dataclass(frozen=True)
class Anatomy:
    """A model: its numbers, the position that is added to its embeddings, its final norm, and its layers."""

    d_model: int
    max_seq_len: int
    vocab_size: int
    tie_embeddings: bool
    embedding_scale: float
    logit_scale: float
    logit_softcap: float | None
    position: Part
    norm: Part
    layers: tuple[Layer, ...]

    @property
    def first(self) -> Layer:
        """The first layer: where a family has all layers alike, this one speaks for them."""
        return self.layers[0]

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Everything but the layers, with its address in the spec."""
        for name in self.__dataclass_fields__:
            if name != "layers":
                yield f"model.{name}", getattr(self, name)


class Disagreement(NamedTuple):
    """Where a spec is not what a family has: the address, the spec's value, and the family's."""

    address: str
    value: Any
    theirs: Any


def anatomy(spec: Spec) -> Anatomy:
    """What this spec means."""
    model = spec.model
    scale = math.sqrt(model.d_model) if model.embedding_scale == "sqrt" else float(model.embedding_scale)
    return Anatomy(
        d_model=model.d_model,
        max_seq_len=model.max_seq_len,
        vocab_size=spec.vocab_size,
        tie_embeddings=model.tie_embeddings,
        embedding_scale=scale,
        logit_scale=model.logit_scale * model.init.make().logit_scale(model.d_model),
        logit_softcap=model.logit_softcap,
        position=plain(model.position) if _embeds(model.position) else NOWHERE,
        norm=plain(model.norm or model.block_at(model.n_layers - 1).norm),
        layers=tuple(_layer(model, name, model.block_at(index)) for index, name in enumerate(model.layers())),
    )


def disagreements(ours: Anatomy, theirs: Anatomy) -> list[Disagreement]:
    """Every setting in which the two differ, once for each address of the spec: where the components differ, the slot alone."""
    found: dict[str, Disagreement] = {}
    pairs = [
        pair for layers in zip(ours.layers, theirs.layers, strict=False) for pair in zip(*(one.parts() for one in layers), strict=True)
    ]
    for (address, value), (_, other) in [*pairs, *zip(ours.parts(), theirs.parts(), strict=True)]:
        for one in _different(address, value, other):
            found.setdefault(one.address, one)
    return list(found.values())


def _different(address: str, ours: Any, theirs: Any) -> Iterator[Disagreement]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if ours.get("type") != theirs.get("type"):
            yield Disagreement(address, ours.get("type"), theirs.get("type"))
            return
        for name in {**ours, **theirs}:
            yield from _different(f"{address}.{name}", ours.get(name), theirs.get(name))
    elif _is_number(ours) and _is_number(theirs):
        # A scale that was a root and is squared again is itself but for its last digit.
        if not math.isclose(ours, theirs, rel_tol=1e-9):
            yield Disagreement(address, ours, theirs)
    elif ours != theirs:
        yield Disagreement(address, _name(ours), _name(theirs))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: Any) -> Any:
    return value.get("type", value) if isinstance(value, Mapping) else value


def _layer(model: ModelSpec, name: str | None, block: BlockSpec) -> Layer:
    position = plain(block.position or model.position)
    attention = _attention(block.attention, model.d_model)
    interleaved = position.get("layout") == "interleaved"
    if attention["type"] == "gqa":
        position = {key: value for key, value in position.items() if key != "layout"}
    address = "model.block" if name is None else f"model.blocks.{name}"
    return Layer(
        address=address,
        position_address="model.position" if block.position is None else f"{address}.position",
        attention=attention,
        ffn=_ffn(block.ffn, model.d_model),
        norm=plain(block.norm),
        position=position,
        layout=block.layout,
        shared_norm=block.shared_norm and block.layout == "parallel",
        residual_scale=model.n_layers**-0.5 if block.residual_scale == "depth" else float(block.residual_scale),
        interleaved=interleaved,
    )


def _attention(chosen: Chosen, d_model: int) -> Part:
    part = plain(chosen)
    if part["type"] == "mla":
        return part | {"scale": part["scale"] or (part["nope_head_width"] + part["rope_head_width"]) ** -0.5}
    if part["type"] not in ("mha", "gqa", "mqa"):
        return part
    width = chosen.params.width(d_model)
    return part | {"type": "gqa", "n_kv_heads": chosen.params.kv_heads, "head_width": width, "scale": part["scale"] or width**-0.5}


def _ffn(chosen: Chosen, d_model: int) -> Part:
    part = plain(chosen)
    if part.get("bias_rate") is not None:
        # How fast a bias moves is for training; that there is one is not.
        part["bias_rate"] = 0.0
    return part | {"d_ff": chosen.params.hidden(d_model)} if "d_ff" in part else part


def _embeds(position: Chosen) -> bool:
    return "embed" in position.component.offered(position.params)
