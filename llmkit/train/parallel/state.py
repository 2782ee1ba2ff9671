"""Checkpoints of a run that no rank has whole: written as one process would write them, and read piece by piece.

The files are those of any run (`model.safetensors`, `optimizer.safetensors`), so that what one arrangement of ranks wrote any other
resumes. On the way out the first rank gathers one parameter after another; on the way in every rank reads one after another from the
file and keeps its piece.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, distributed, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.model.init import saved_name
from llmkit.train.checkpoint import GROUPS, MODEL, OPTIMIZER, Checkpoint, EarlierNames

if TYPE_CHECKING:
    from llmkit.train.parallel.engine import ParallelEngine

Fields = dict[str, dict[str, Any]]
"""Parameter -> what an optimizer keeps of it: whole tensors, and numbers."""


def gathered_weights(engine: ParallelEngine) -> dict[str, Tensor]:
    """Whole parameters and saved buffers by saved key, in a whole model's order; on the first rank alone. All ranks call it."""
    own: dict[str, Tensor] = {}
    for piece in engine.pieces:
        whole = piece.gather(piece.local, engine.mesh)
        if _leads(engine):
            own[piece.name] = whole.cpu()
    if _leads(engine):
        own |= {name: buffer.detach().cpu() for name, buffer in _buffers(engine).items()}
    everyone = _from_stages(engine, own)
    return {name: everyone[name] for name in engine.saved_names} if everyone else {}


def gathered_optimizer(engine: ParallelEngine, weights: Mapping[str, Tensor]) -> tuple[torch.optim.Optimizer, list[NamedParameter]]:
    """The optimizer of a model that is whole, with its state; on the first rank alone it has any. All ranks call it."""
    fields = _gathered_fields(engine)
    options = {name: _options(group) for group in engine.optimizer.param_groups for name in _names(engine, group)}
    everyone, groups = _from_stages(engine, fields), _from_stages(engine, options)
    parameters = [one._replace(parameter=nn.Parameter(weights[one.name], requires_grad=False)) if weights else one for one in engine.whole]
    of = {one.name: one.parameter for one in parameters}
    whole = [[of[name] for name in names] for names in _group_names(engine)]
    first = [groups.get(names[0], {}) for names in _group_names(engine)]
    optimizer = torch.optim.Optimizer([{**known, "params": held} for known, held in zip(first, whole, strict=True)], {})
    for name, values in everyone.items():
        optimizer.state[of[name]] = values
    return optimizer, parameters


def load(engine: ParallelEngine, found: Checkpoint, earlier: EarlierNames) -> None:
    """Take this rank's pieces out of a checkpoint. `UserError` where it is of another model."""
    with _reading(found, MODEL) as saved:
        now = names_now(set(saved.keys()), earlier)
        for piece in engine.pieces:
            whole = _read(saved, now, piece.name, piece.name, found)
            if whole.shape != piece.shape:
                raise UserError(
                    f"checkpoint {str(found.directory)!r}: {piece.name!r} is {tuple(whole.shape)}, the model's is {tuple(piece.shape)}"
                )
            with torch.no_grad():
                piece.local.copy_(piece.take(whole, engine.mesh))
        for name, buffer in _buffers(engine).items():
            buffer.copy_(_read(saved, now, name, name, found))
    if found.has_optimizer():
        _load_optimizer(engine, found, earlier)


def _load_optimizer(engine: ParallelEngine, found: Checkpoint, earlier: EarlierNames) -> None:
    record = json.loads((found.directory / GROUPS).read_text())
    recorded = [name for group in record["groups"] for name in group["params"]]
    now = names_now(set(recorded), earlier)
    pieces = {piece.name: piece for piece in engine.pieces}
    state: Fields = {now[name]: dict(values) for name, values in record["state"].items() if now[name] in pieces}
    with _reading(found, OPTIMIZER) as saved:
        for key in saved.keys():  # noqa: SIM118  # it is no mapping
            name, _, field = key.rpartition("/")
            piece = pieces.get(now[name])
            if piece is None:
                continue
            tensor = saved.get_tensor(key)
            state.setdefault(piece.name, {})[field] = piece.take(tensor, engine.mesh).clone() if tensor.shape == piece.shape else tensor
    options = {now[name]: _options(group) for group in record["groups"] for name in group["params"]}
    own = [_names(engine, group) for group in engine.optimizer.param_groups]
    index = {name: number for number, name in enumerate(name for names in own for name in names)}
    engine.optimizer.load_state_dict(
        {
            "state": {index[name]: values for name, values in state.items()},
            "param_groups": [{**options[names[0]], "params": [index[name] for name in names]} for names in own],
        }
    )


def _gathered_fields(engine: ParallelEngine) -> Fields:
    """What the optimizer keeps of this stage's parameters, whole; on the leading rank of the stage."""
    fields: Fields = {}
    for piece in engine.pieces:
        for field, value in engine.optimizer.state.get(piece.local, {}).items():
            if isinstance(value, Tensor) and value.dim() > 0:
                if value.shape != piece.local.shape:
                    raise UserError(
                        f"the optimizer keeps {field!r} of {piece.name!r} in another shape than the parameter's, which cannot be gathered "
                        "from shards; choose another optimizer, or leave `parallel` out"
                    )
                value = piece.gather(value, engine.mesh)
            if _leads(engine):
                fields.setdefault(piece.name, {})[field] = value.cpu() if isinstance(value, Tensor) else value
    return fields


def _leads(engine: ParallelEngine) -> bool:
    """Whether this is the rank that speaks for its stage."""
    return distributed.get_rank() % (distributed.get_world_size() // engine.mesh.degrees.pp) == 0


def _from_stages(engine: ParallelEngine, own: dict[str, Any]) -> dict[str, Any]:
    """What the leading ranks of all stages have, on the first rank; nothing on others."""
    if engine.mesh.pp is None or not _leads(engine):
        return own if _leads(engine) else {}
    first = engine.mesh.pp_rank == 0
    everyone: list[Any] = [None] * engine.mesh.degrees.pp
    distributed.gather_object(own, everyone if first else None, dst=distributed.get_global_rank(engine.mesh.pp, 0), group=engine.mesh.pp)
    return {name: value for part in everyone for name, value in part.items()} if first else {}


def _buffers(engine: ParallelEngine) -> dict[str, Tensor]:
    """Buffers of this rank that are saved, by saved name."""
    keys = set(engine.saved_names)
    return {saved_name(path): buffer for path, buffer in engine.root.named_buffers() if saved_name(path) in keys}


def _group_names(engine: ParallelEngine) -> list[list[str]]:
    """The parameters of every group of an optimizer over the whole model, in its order."""
    names = {id(one.parameter): one.name for one in engine.whole}
    whole = engine.spec.train.optimizer.make().build(engine.whole)
    return [[names[id(parameter)] for parameter in group["params"]] for group in whole.param_groups]


def _names(engine: ParallelEngine, group: Mapping[str, Any]) -> list[str]:
    names = {id(one.parameter): one.name for one in engine.parameters}
    return [names[id(parameter)] for parameter in group["params"]]


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


@contextmanager
def _reading(found: Checkpoint, name: str) -> Iterator[Any]:
    with safe_open(found.directory / name, framework="pt") as file:
        yield file


def _read(saved: Any, now: Mapping[str, str], name: str, what: str, found: Checkpoint) -> Tensor:
    held = next((old for old, new in now.items() if new == name), None)
    if held is None:
        raise UserError(f"checkpoint {str(found.directory)!r} has no weight {what!r}: it is of another model")
    tensor: Tensor = saved.get_tensor(held)
    return tensor


def names_now(saved: Collection[str], earlier: EarlierNames) -> dict[str, str]:
    """Saved name -> name now."""
    chosen = {next((old for old in olds if old in saved), None): name for name, olds in earlier.items() if name not in saved}
    return {name: chosen.get(name, name) for name in saved}
