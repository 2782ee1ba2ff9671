"""Checkpoints: complete or absent, checksummed, without a pickle or an import path.

    checkpoints/step-00000100/
      model.safetensors       the model's own keys; an objective's parameters under `objective.`
      optimizer.safetensors   `<parameter>/<field>` tensors of the optimizer's state
      optimizer.json          its groups and what of its state is a number
      trainer.json            step, tokens
      checksums.json          SHA-256 of every other file

A checkpoint is written under a temporary name, flushed, and renamed: a directory with the final name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.spec import Spec

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

    def damage(self) -> str | None:
        """Which file is not what it was when it was written; None where all are."""
        try:
            recorded: dict[str, str] = json.loads((self.directory / CHECKSUMS).read_text())
        except (OSError, ValueError):
            return f"{CHECKSUMS} is missing or torn"
        for name, checksum in recorded.items():
            path = self.directory / name
            if not path.exists():
                return f"{name} is missing"
            if _checksum(path) != checksum:
                return f"{name} does not have its checksum"
        return None

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


def write(
    directory: Path,
    step: int,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    parameters: Sequence[NamedParameter] = (),
    trainer: Mapping[str, Any],
) -> Checkpoint:
    """Write `directory/step-XXXXXXXX`, complete or not at all.

    weights  a module, or tensors by saved key
    """
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    place = directory / f"step-{step:08d}"
    draft = directory / f".{place.name}.{os.getpid()}.part"
    draft.mkdir()
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in _weights(weights).items()}, draft / MODEL)
        if optimizer is not None:
            _write_optimizer(draft, optimizer, parameters)
        (draft / TRAINER).write_text(json.dumps({"step": step, **trainer}, indent=2) + "\n")
        checksums = {path.name: _checksum(path) for path in sorted(draft.iterdir())}
        (draft / CHECKSUMS).write_text(json.dumps(checksums, indent=2) + "\n")
        for path in (*draft.iterdir(), draft):
            _flush(path)
        if place.exists():
            # The same step written before (a resumed run whose old checkpoint was damaged): it gives way to this one.
            shutil.rmtree(place)
        draft.rename(place)
    except (OSError, SafetensorError) as error:
        # A full disk is an OSError of ours, or a SafetensorError of the library's.
        shutil.rmtree(draft, ignore_errors=True)
        raise UserError(
            f"cannot write checkpoint {str(place)!r}: {error}; the earlier checkpoints are as they were. "
            "free some space or choose another --out, then run the same command again"
        ) from error
    _flush(directory)
    return Checkpoint(place, step)


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


def prune(directory: Path, keep: int | None) -> None:
    """Keep the latest `keep` checkpoints."""
    for checkpoint in listed(directory)[keep:] if keep is not None else ():
        shutil.rmtree(checkpoint.directory)


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


def _write_optimizer(draft: Path, optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter]) -> None:
    names = {index: name for name, index in _indices(optimizer, parameters).items()}
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, fields in state["state"].items():
        for field, value in fields.items():
            if isinstance(value, Tensor):
                tensors[f"{names[index]}/{field}"] = value.detach().cpu().contiguous()
            else:
                numbers.setdefault(names[index], {})[field] = value
    groups = [{**group, "params": [names[index] for index in group["params"]]} for group in state["param_groups"]]
    save_file(tensors, draft / OPTIMIZER)
    (draft / GROUPS).write_text(json.dumps({"groups": groups, "state": numbers}, indent=2) + "\n")


def _indices(optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter]) -> dict[str, int]:
    """Saved name -> the number that the optimizer's state_dict knows the parameter by."""
    names = {id(one.parameter): one.name for one in parameters}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {names[id(parameter)]: index for index, parameter in enumerate(ordered)}


def _sweep(directory: Path) -> None:
    """Remove what a process that died left half-written."""
    for leftover in directory.glob(".step-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
