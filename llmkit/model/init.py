"""Initial values, drawn by the address of the parameter.

Every parameter has a generator of its own, keyed by its address and the seed, in fp32 on the CPU, one whole parameter at a
time, then cast: the same on every device and any number of ranks, and swapping one component leaves every other weight
bit for bit what it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.init import Init, Weight
from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.core.spec import ModelSpec


def initialise(module: nn.Module, spec: ModelSpec, seed: int, *, prefix: str = "") -> None:
    """Give every parameter its initial value, in place. `module` is on a real device (after `to_empty`, where it was built on meta).

    A module may say `initial(name, shape, generator) -> Tensor | None` for its own parameters and, by their dotted names, for those
    of the modules in it (an attention for its `output.weight`); the innermost that does not say None has its way. Else two and more
    dimensions are drawn by the spec's `init`, one dimension named `bias` or `*_bias` is zeros, any other ones.

    prefix  of the saved names, where `module` is a part: `objective.`

    `ValueError` where a parameter is on the meta device.
    """
    values = initial_values(module, spec, seed, prefix=prefix)
    for weight in _weights(module, spec, prefix):
        if weight.parameter.is_meta:
            raise ValueError(f"{weight.name} is on the meta device and can hold no value; call to_empty first")
        with torch.no_grad():
            weight.parameter.copy_(values[weight.name]())


def initial_values(module: nn.Module, spec: ModelSpec, seed: int, *, prefix: str = "") -> dict[str, Callable[[], Tensor]]:
    """Saved name -> what draws the whole parameter's initial value, fp32 on the CPU. `module` may be on the meta device: ranks that
    hold parts of parameters draw a whole one at a time, and keep their part."""
    init = spec.init.make()
    return {
        weight.name: partial(_initial, module, weight, init, generator_for(weight.name, seed)) for weight in _weights(module, spec, prefix)
    }


def generator_for(address: str, seed: int) -> torch.Generator:
    """The stream of one parameter."""
    key = hashlib.sha256(f"init:{seed}:{address}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))


def named_parameters_with_roles(module: nn.Module, spec: ModelSpec) -> list[NamedParameter]:
    """Every parameter once, with its saved name, its role, and what the spec's `init` makes of its learning rate."""
    init = spec.init.make()
    return [
        NamedParameter(one.name, one.parameter, one.role, init.learning_rate(one.drawn) if one.parameter.dim() >= 2 else 1.0)
        for one in _weights(module, spec, "")
    ]


WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
"""Names that torch puts into a module's path where it wraps it."""


def saved_name(name: str) -> str:
    """A parameter's name without the wrappers': inside a train step, the model's own names are saved as they are."""
    inner = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return inner.removeprefix("module.").removeprefix("model.")


class _Parameter(NamedTuple):
    """A parameter with its name in the module that holds it, and as an `Init` sees it."""

    path: str
    parameter: nn.Parameter
    drawn: Weight

    @property
    def name(self) -> str:
        return self.drawn.name

    @property
    def role(self) -> Role:
        return self.drawn.role


def _weights(module: nn.Module, spec: ModelSpec, prefix: str) -> Iterator[_Parameter]:
    """Each parameter once."""
    roles, residual = _declared(module)
    for path, parameter in module.named_parameters():
        name = prefix + saved_name(path)
        role = roles.get(path) or ("matrix" if parameter.dim() >= 2 else "vector")
        within = _LAYER.match(name)
        layer = int(within[1]) if within else None
        yield _Parameter(path, parameter, Weight(name, parameter.shape, role, path in residual, layer, spec.n_layers, spec.d_model))


_LAYER = re.compile(r"blocks\.(\d+)\.")


def _declared(module: nn.Module) -> tuple[dict[str, Role], set[str]]:
    """What modules say of their parameters: `roles`, and which of them write into the `residual` stream."""
    roles: dict[str, Role] = {}
    residual: set[str] = set()
    for prefix, part in module.named_modules():
        within = f"{prefix}." if prefix else ""
        declared: dict[str, Role] = getattr(part, "roles", {})
        roles.update({within + name: role for name, role in declared.items()})
        residual.update(within + name for name in getattr(part, "residual", ()))
    return roles, residual


def _initial(module: nn.Module, weight: _Parameter, init: Init, generator: torch.Generator) -> Tensor:
    parts, shape = weight.path.split("."), weight.parameter.shape
    for depth in reversed(range(len(parts))):
        own = getattr(module.get_submodule(".".join(parts[:depth])), "initial", None)
        value: Tensor | None = None if own is None else own(".".join(parts[depth:]), shape, generator)
        if value is not None:
            return value
    name = parts[-1]
    if len(shape) >= 2:
        return init.draw(weight.drawn, generator)
    if name == "bias" or name.endswith("_bias"):
        return torch.zeros(shape)
    return torch.ones(shape)
