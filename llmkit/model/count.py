"""What a model costs, from its spec alone: parameters, floating-point operations and cache bytes, by address.

Everything is read off the model itself on the meta device, which has shapes and no values, so that a component of anyone's is
accounted for without saying anything, and 405 billion parameters take seconds and no memory.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from llmkit import runtime
from llmkit.core.catalog import Catalog
from llmkit.core.component import Chosen
from llmkit.core.interfaces.attention import Attention
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder


@dataclass(frozen=True)
class Parameters:
    """How many numbers are learned.

    total          each once: a tied head is the embedding
    embedding      the token table and any position table
    non_embedding  the others
    """

    total: int
    embedding: int
    non_embedding: int


@dataclass(frozen=True)
class Flops:
    """Floating-point operations a token: exact matrix products of a sequence of max_seq_len tokens, divided by its length.

    A multiply-add is two. Attention counts as T x T, whatever the mask; element-wise work and look-ups count as nothing.
    """

    forward: float
    training: float
    """Three times the forward pass: the backward pass has two products for each of its own."""


@dataclass(frozen=True)
class ComponentRow:
    """One slot of the spec. `parameters` is summed over all layers that use it, and over what is nested in it.

    Those of an objective (a value head) are its own, and no part of the model's total.
    """

    address: str
    kind: str
    type: str
    distribution: str
    version: str
    revision: int
    parameters: int


@dataclass(frozen=True)
class Account:
    """What `llmkit build` tells.

    kv_cache_bytes_per_token  what all layers remember of one token, at two bytes a number whatever the precision
    kv_cache_bytes            of one row of max_seq_len tokens: less than so many times as much where windows forget
    """

    name: str
    parameters: Parameters
    flops_per_token: Flops
    kv_cache_bytes_per_token: int
    kv_cache_bytes: int
    components: tuple[ComponentRow, ...]


@dataclass(frozen=True)
class TensorRow:
    """A parameter, or a buffer that is saved; `name` has a `*` for the number of the block, and `count` tells how many there are."""

    name: str
    shape: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class ComponentCost:
    """What one component costs in a model, over all slots of the spec that hold it, what is nested in it included.

    addresses                 those slots
    flops_per_token           of the forward pass at max_seq_len, as `Flops` counts them; None of an objective, which is no part of it
    kv_cache_bytes_per_token  as `Account` counts them; 0 of what keeps nothing
    """

    addresses: tuple[str, ...]
    tensors: tuple[TensorRow, ...]
    parameters: int
    flops_per_token: float | None
    kv_cache_bytes_per_token: int


@dataclass(frozen=True)
class _Noted(Chosen):
    """A slot that notes what is made of it: whatever a component calls its nested module, it is found again."""

    made: list[Any]

    def make(self, *arguments: Any) -> Any:
        module = super().make(*arguments)
        self.made.append(module)
        return module


def account(spec: Spec, catalog: Catalog | None = None) -> Account:
    """Parameters, FLOPs and cache bytes of a spec, in total and by address. Draws no value and reads no data."""
    noted: Spec = _noted(spec)
    model = build(noted, device="meta")
    parts = nn.ModuleList([model, _objective(noted)])
    parameters = _parameters(model)
    forward = forward_flops(model, spec.model.max_seq_len) / spec.model.max_seq_len
    return Account(
        spec.name,
        parameters,
        Flops(forward, 3 * forward),
        kv_cache_bytes(model, 1),
        kv_cache_bytes(model, spec.model.max_seq_len),
        tuple(_rows(noted, parts, runtime.catalog() if catalog is None else catalog)),
    )


def component_cost(spec: Spec, kind: Kind, name: str) -> ComponentCost:
    """What the component of this kind and name costs in the model of a spec; all is 0 where the spec has none."""
    noted: Spec = _noted(spec)
    model = build(noted, device="meta")
    objective = _objective(noted)
    slots = [(address, chosen) for address, of, chosen in noted.slots() if of is kind and chosen.type == name]
    made = {id(module) for _, chosen in slots if isinstance(chosen, _Noted) for module in chosen.made}
    inside = kind is not Kind.objective
    root, where = (model, "") if inside else (objective, "objective.")
    found = _outermost({place: module for place, module in root.named_modules() if id(module) in made})
    like = torch.empty((), dtype=torch.bfloat16, device="meta")
    cached = [module.new_cache(1, 1, like=like).nbytes for module in found.values() if isinstance(module, Attention)]
    tensors, parameters = tuple(_tensors(where, found)), _count(list(found.values()))
    flops = _flops_of(model, found, spec.model.max_seq_len) / spec.model.max_seq_len if inside else None
    return ComponentCost(tuple(address for address, _ in slots), tensors, parameters, flops, sum(cached))


def _outermost(found: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Without those that lie inside another, which counts them already."""
    return {place: module for place, module in found.items() if not any(place.startswith(f"{other}.") for other in found)}


def _tensors(where: str, found: Mapping[str, nn.Module]) -> Iterable[TensorRow]:
    counts: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for place, module in found.items():
        for key, tensor in module.state_dict().items():
            counts[re.sub(r"^blocks\.\d+\.", "blocks.*.", where + ".".join(filter(None, (place, key)))), tuple(tensor.shape)] += 1
    yield from (TensorRow(name, shape, count) for (name, shape), count in counts.items())


def _flops_of(model: Decoder, found: Mapping[str, nn.Module], length: int) -> int:
    """Matrix products inside these modules in one forward pass; the model is spent afterwards."""
    told = sum(_told(nn.ModuleList([module]), length) for module in found.values())
    counts = _counted(model, length).get_flop_counts()
    return told + sum(sum(counts.get(f"{type(model).__name__}.{place}", {}).values()) for place in found)


def forward_flops(model: Decoder, length: int) -> int:
    """Matrix products of one forward pass over a sequence. The model is on meta and is spent afterwards.

    A component that has `flops(length)` is taken at its word and not run: where products depend on values (a router), or a
    kernel hides them, only it knows. `RuntimeError` where one needs values and has none.
    """
    return _told(model, length) + int(_counted(model, length).get_total_flops())


def flops_of_spec(spec: Spec, length: int) -> int:
    """`forward_flops` of a spec's model, counted once in a process for each shape: models that differ in their seeds alone are one."""
    document = spec.model_dump(mode="json")
    key = json.dumps([document["model"], spec.vocab_size, length])
    if key not in _FLOPS:
        _FLOPS[key] = forward_flops(build(spec, device="meta"), length)
    return _FLOPS[key]


_FLOPS: dict[str, int] = {}


def _told(model: nn.Module, length: int) -> int:
    told = 0
    for module in _outermost_that_tell(model):
        told += int(module.flops(length))  # type: ignore[operator]
    return told


def _counted(model: Decoder, length: int) -> FlopCounterMode:
    """The counter after one forward pass, in which no component ran that tells its own."""
    for module in _outermost_that_tell(model):
        module.forward = _unchanged
    try:
        counter: FlopCounterMode = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(1, length, dtype=torch.int64, device="meta"))
    except (RuntimeError, NotImplementedError) as error:
        raise RuntimeError(
            f"FLOPs are counted without values, and a component needs some; give it a method flops(length): {error}"
        ) from error
    return counter


def kv_cache_bytes(model: Decoder, length: int) -> int:
    """What `new_cache` holds for one row of so many tokens, over all layers, at two bytes a number."""
    like = torch.empty((), dtype=torch.bfloat16, device="meta")
    return sum(block.attention.new_cache(1, length, like=like).nbytes for block in model.blocks)  # type: ignore[operator, union-attr]


def _outermost_that_tell(module: nn.Module) -> Iterable[nn.Module]:
    for child in module.children():
        if getattr(child, "flops", None) is not None:
            yield child
        else:
            yield from _outermost_that_tell(child)


def _unchanged(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _parameters(model: Decoder) -> Parameters:
    tables = [model.embedding, model.positions, *([] if model.position is None else [model.position])]
    embedding = _count(tables)
    total = _count([model])
    return Parameters(total, embedding, total - embedding)


def _count(modules: Sequence[nn.Module]) -> int:
    """Parameters of all modules, each once."""
    return sum(parameter.numel() for parameter in {id(p): p for module in modules for p in module.parameters()}.values())


def _objective(spec: Spec) -> nn.Module:
    model = spec.model
    site = Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, spec.vocab_size, address="train.objective")
    with torch.device("meta"):
        objective: nn.Module = spec.train.objective.make(site)
    return objective


def _rows(noted: Spec, parts: nn.Module, catalog: Catalog) -> Iterable[ComponentRow]:
    # What was made and not kept (the model builds blocks to ask what they need) is no part of it.
    kept = set(map(id, parts.modules()))
    for address, kind, chosen in noted.slots():
        origin = catalog.entry(kind, chosen.type).origin
        made = [module for module in chosen.made if id(module) in kept] if isinstance(chosen, _Noted) else []
        yield ComponentRow(address, str(kind), chosen.type, origin.distribution, origin.version, chosen.component.revision, _count(made))


def _noted(value: Any) -> Any:
    """The same spec, part or parameters, in which every slot notes what is made of it."""
    if isinstance(value, Chosen):
        return _Noted(value.component, _noted(value.params), [])
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _noted(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: _noted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_noted(item) for item in value)
    return value
