"""Initial values, drawn by the address of the parameter.

Every parameter has a generator of its own, keyed by its address and the seed, in fp32 on the CPU, one whole parameter at a
time, then cast: the same on every device and any number of ranks, and swapping one component leaves every other weight
bit for bit what it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.optimizer import NamedParameter, Role

STD = 0.02
"""Standard deviation of matrices, embeddings and heads: GPT-2's, and most models' since."""


def initialise(model: nn.Module, seed: int) -> None:
    """Give every parameter its initial value, in place. `model` is on a real device (after `to_empty`, where it was built on meta).

    A module may say `initial(name, shape, generator) -> Tensor | None` for its own parameters and, by their dotted names, for those
    of the modules in it (an attention for its `output.weight`); the innermost that does not say None has its way. Else two and more
    dimensions are normal with deviation 0.02, one dimension named `bias` or `*_bias` is zeros, any other ones.
    `ValueError` where a parameter is on the meta device.
    """
    for address, path, parameter in _parameters(model):
        if parameter.is_meta:
            raise ValueError(f"{address} is on the meta device and can hold no value; call to_empty first")
        value = _initial(model, path, parameter.shape, generator_for(address, seed))
        with torch.no_grad():
            parameter.copy_(value)


def generator_for(address: str, seed: int) -> torch.Generator:
    """The stream of one parameter."""
    key = hashlib.sha256(f"init:{seed}:{address}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))


def named_parameters_with_roles(model: nn.Module) -> list[NamedParameter]:
    """Every parameter once, with its saved name and its role."""
    roles = _declared_roles(model)
    return [
        NamedParameter(address, parameter, roles.get(address) or ("matrix" if parameter.dim() >= 2 else "vector"))
        for address, _, parameter in _parameters(model)
    ]


WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
"""Names that torch puts into a module's path where it wraps it."""


def saved_name(name: str) -> str:
    """A parameter's name without the wrappers': inside a train step, the model's own names are saved as they are."""
    inner = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return inner.removeprefix("module.").removeprefix("model.")


def _parameters(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(saved name, name in `model`, parameter), each parameter once."""
    for path, parameter in model.named_parameters():
        yield saved_name(path), path, parameter


def _declared_roles(model: nn.Module) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for prefix, module in model.named_modules():
        declared: dict[str, Role] = getattr(module, "roles", {})
        roles.update({saved_name(f"{prefix}.{name}" if prefix else name): role for name, role in declared.items()})
    return roles


def _initial(model: nn.Module, path: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    parts = path.split(".")
    for depth in reversed(range(len(parts))):
        own = getattr(model.get_submodule(".".join(parts[:depth])), "initial", None)
        value: Tensor | None = None if own is None else own(".".join(parts[depth:]), shape, generator)
        if value is not None:
            return value
    name = parts[-1]
    if len(shape) >= 2:
        return torch.randn(shape, generator=generator) * STD
    if name == "bias" or name.endswith("_bias"):
        return torch.zeros(shape)
    return torch.ones(shape)
