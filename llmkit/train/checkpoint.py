"""Checkpoints: complete or absent, checksummed, without a pickle or an import path.

    checkpoints/step-00000100/
      model.safetensors       the model's own keys; an objective's parameters under `objective.`
      optimizer.safetensors   `<parameter>/<field>` tensors of the optimizer's state
      optimizer.json          its groups and what of its state is a number
      trainer.json            step, tokens
      checksums.json          SHA-256 of every other file

A checkpoint is written under a temporary name, flushed, and renamed: a directory with the final name is complete. One that is removed
loses its name first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.spec import Spec
from llmkit.data.cache import checksum, flush
from llmkit.data.durable import draft_of, is_draft, remove, take_name, told, write_flushed
from llmkit.train.keep import KeepRule
from llmkit.train.tensor_file import write_tensors

EarlierNames = Mapping[str, Sequence[str]]
"""Saved name -> names that the tensor had before, the latest first."""

MODEL, OPTIMIZER, GROUPS, TRAINER, CHECKSUMS = (
    "model.safetensors", "optimizer.safetensors", "optimizer.json", "trainer.json", "checksums.json",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    directory: Path
    step: int

    def trainer(self) -> dict[str, Any]:
        """Step, tokens and whatever else the loop recorded."""
        return dict(json.loads((self.directory / TRAINER).read_text()))

    def has_optimizer(self) -> bool:
        """Whether it has more than weights: one of a run that was only built has not."""
        return (self.directory / GROUPS).exists()

    def damage(self) -> str | None:
        """Which file is not what it was when it was written; None where all are."""
        try:
            recorded = json.loads((self.directory / CHECKSUMS).read_text())
        except (OSError, ValueError):
            return f"{CHECKSUMS} is missing or torn"
        if not isinstance(recorded, dict) or not {MODEL, TRAINER} <= set(recorded):
            return f"{CHECKSUMS} does not name {MODEL} and {TRAINER}"
        found = ((name, _file_damage(self.directory / name, wanted)) for name, wanted in recorded.items())
        return next((f"{name} {damage}" for name, damage in found if damage is not None), None)

    def remove(self) -> None:
        """Take it away, at once. `UserError` where the disk does not let it."""
        with told(f"{str(self.directory.parent)!r}, where {self.directory.name} is to be removed"):
            remove(self.directory)

    def load_model(self, into: nn.Module | Mapping[str, Tensor], earlier: EarlierNames | None = None) -> None:
        """Put the saved weights into a model, a train step (model and objective), or tensors by saved key. `UserError` where they do
        not fit.

        earlier  what tensors were called in earlier revisions of their components
        """
        tensors = load_file(self.directory / MODEL)
        renamed = _renamed(tensors, earlier)
        tensors = {renamed.get(name, name): tensor for name, tensor in tensors.items()}
        for name, parameter in _weights(into).items():
            if name not in tensors:
                raise UserError(f"checkpoint {str(self.directory)!r} has no weight {name!r}: it is of another model")
            saved = tensors.pop(name)
            if saved.shape != parameter.shape:
                raise UserError(
                    f"checkpoint {str(self.directory)!r}: {name!r} is {tuple(saved.shape)}, the model's is {tuple(parameter.shape)}"
                )
            with torch.no_grad():
                parameter.copy_(saved)
        rest = [name for name in tensors if not name.startswith("objective.")]
        if rest:
            raise UserError(f"checkpoint {str(self.directory)!r} has weights that the model lacks: {', '.join(sorted(rest)[:5])}")

    def load_optimizer(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter], earlier: EarlierNames | None = None
    ) -> None:
        """Put the saved state into an optimizer built over the same parameters, whose names may have been others."""
        record = json.loads((self.directory / GROUPS).read_text())
        tensors = load_file(self.directory / OPTIMIZER)
        index = _indices(optimizer, parameters)
        saved = {name for group in record["groups"] for name in group["params"]}
        index |= {old: index[new] for old, new in _renamed(saved, earlier).items()}
        state: dict[int, dict[str, Any]] = {index[name]: dict(values) for name, values in record["state"].items()}
        for key, tensor in tensors.items():
            name, _, field = key.rpartition("/")
            state.setdefault(index[name], {})[field] = tensor
        groups = [{**group, "params": [index[name] for name in group["params"]]} for group in record["groups"]]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


@dataclass(frozen=True)
class State:
    """What a checkpoint holds.

    weights    tensors by saved key
    trainer    step, tokens and whatever else the loop records; JSON
    optimizer  `<parameter>/<field>` tensors of the optimizer's state; None where there is no optimizer
    groups     the optimizer's groups and what of its state is a number; JSON
    """

    step: int
    weights: Mapping[str, Tensor]
    trainer: str
    optimizer: Mapping[str, Tensor] | None = None
    groups: str = ""

    def copied(self) -> State:
        """A copy in the CPU's memory, which stays as it is while training goes on."""
        weights = {name: _copied(tensor) for name, tensor in self.weights.items()}
        optimizer = None if self.optimizer is None else {name: _copied(tensor) for name, tensor in self.optimizer.items()}
        for device in {tensor.device for tensor in self.weights.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return replace(self, weights=weights, optimizer=optimizer)


def state_of(
    step: int,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    parameters: Sequence[NamedParameter] = (),
    trainer: Mapping[str, Any],
) -> State:
    """What a checkpoint of this moment holds; its tensors are those that training changes.

    weights  a module, or tensors by saved key
    """
    record = json.dumps({"step": step, **trainer}, indent=2) + "\n"
    if optimizer is None:
        return State(step, _weights(weights), record)
    tensors, groups = _optimizer_state(optimizer, parameters)
    return State(step, _weights(weights), record, tensors, json.dumps(groups, indent=2) + "\n")


def save(directory: Path, state: State, after: Iterable[Path] = ()) -> Checkpoint:
    """Write `directory/step-XXXXXXXX`, complete or not at all. `UserError` where the disk does not let it; nothing of it is left then.

    after  files that are on the disk before the checkpoint is: what the run told of the steps until it
    """
    place = directory / f"step-{state.step:08d}"
    draft = draft_of(place)
    with told(f"checkpoint {str(place)!r}", "the earlier checkpoints are as they were"):
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
        try:
            draft.mkdir()
            _fill(draft, state)
            for path in (*after, draft):
                flush(path)
            take_name(draft, place)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return Checkpoint(place, state.step)


def write(
    directory: Path,
    step: int,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    parameters: Sequence[NamedParameter] = (),
    trainer: Mapping[str, Any],
) -> Checkpoint:
    """`save` the `state_of` this moment, while nothing changes it."""
    return save(directory, state_of(step, weights, optimizer=optimizer, parameters=parameters, trainer=trainer))


def listed(directory: Path) -> list[Checkpoint]:
    """The checkpoints of a run, the latest first."""
    places = directory.glob("step-*") if directory.is_dir() else ()
    found = [Checkpoint(place, int(place.name.removeprefix("step-"))) for place in places if place.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda one: -one.step)


def latest(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The latest checkpoint whose checksums hold; those that do not are named to `warn`."""
    for checkpoint in listed(directory):
        damage = checkpoint.damage()
        if damage is None:
            return checkpoint
        warn(f"checkpoint {str(checkpoint.directory)!r} is damaged ({damage}); the one before it is tried")
    return None


def prune(directory: Path, rule: KeepRule, losses: Mapping[int, float]) -> None:
    """Remove the checkpoints that the rule does not keep, the oldest first, and what a process that died left behind.

    losses  validation losses by step
    """
    _sweep(directory)
    found = listed(directory)
    kept = rule.kept([one.step for one in found], losses)
    for checkpoint in reversed(found):
        if checkpoint.step not in kept:
            checkpoint.remove()


def earlier_names(module: nn.Module, spec: Spec) -> EarlierNames:
    """What each saved tensor was called in earlier revisions of the component that has it, the latest first."""
    moved = {
        chosen.component.resolve(): chosen.component for _, kind, chosen in spec.slots() if kind.is_module and chosen.component.migrations
    }
    found: dict[str, list[str]] = {}
    for place, part in module.named_modules() if moved else ():
        component = moved.get(type(part))
        for own in part.state_dict() if component is not None else ():
            prefix = f"{place}.".removeprefix("model.") if place else ""
            found.setdefault(prefix + own, []).extend(prefix + old for old in component.earlier_names(own))  # type: ignore[union-attr]
    return found


def _renamed(saved: Collection[str], earlier: EarlierNames | None) -> dict[str, str]:
    """Saved name -> name now, of what is saved under an earlier name alone."""
    chosen = ((name, next((old for old in olds if old in saved), None)) for name, olds in (earlier or {}).items() if name not in saved)
    return {old: name for name, old in chosen if old is not None}


def _weights(given: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return saved_tensors(given) if isinstance(given, nn.Module) else given


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What is saved of a model or a train step, by saved key: every parameter once, and persistent buffers.

    Keys are the model's own: never a wrapper's name.
    """
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        found[name.removeprefix("model.")] = tensor
    return found


def _optimizer_state(optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    names = {index: name for name, index in _indices(optimizer, parameters).items()}
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, fields in state["state"].items():
        for field, value in fields.items():
            if isinstance(value, Tensor):
                tensors[f"{names[index]}/{field}"] = value
            else:
                numbers.setdefault(names[index], {})[field] = value
    groups = [{**group, "params": [names[index] for index in group["params"]]} for group in state["param_groups"]]
    return tensors, {"groups": groups, "state": numbers}


def _indices(optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter]) -> dict[str, int]:
    """Saved name -> the number that the optimizer's state_dict knows the parameter by."""
    names = {id(one.parameter): one.name for one in parameters}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {names[id(parameter)]: index for index, parameter in enumerate(ordered)}


def _fill(draft: Path, state: State) -> None:
    """Write every file of a checkpoint, and their checksums last."""
    checksums = {MODEL: write_tensors(draft / MODEL, state.weights)}
    if state.optimizer is not None:
        checksums[OPTIMIZER] = write_tensors(draft / OPTIMIZER, state.optimizer)
        checksums[GROUPS] = write_flushed(draft / GROUPS, [state.groups.encode()])
    checksums[TRAINER] = write_flushed(draft / TRAINER, [state.trainer.encode()])
    write_flushed(draft / CHECKSUMS, [(json.dumps(checksums, indent=2) + "\n").encode()])


def _copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU; one from a GPU is complete once the device is synchronised."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor.detach(), non_blocking=tensor.is_cuda)


def _sweep(directory: Path) -> None:
    """Remove what a process that died left half-written or half-removed."""
    for leftover in directory.iterdir() if directory.is_dir() else ():
        if is_draft(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def _file_damage(path: Path, recorded: str) -> str | None:
    if not path.exists():
        return "is missing"
    try:
        return None if checksum(path) == recorded else "does not have its checksum"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
