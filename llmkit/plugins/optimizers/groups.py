"""Parameters in groups by whether they decay and how fast they learn, and which kernel steps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.components import OptimizerParams

FUSED_DEVICES = frozenset({"cpu", "cuda"})


def decaying_roles(params: OptimizerParams) -> frozenset[Role]:
    """Matrices and the head decay; tables and vectors only where the spec asks, because a decayed scale or rare token is lost."""
    roles: set[Role] = {"matrix", "head"}
    if params.decay_embeddings:
        roles.add("embedding")
    if params.decay_vectors:
        roles.add("vector")
    return frozenset(roles)


def grouped(
    parameters: Iterable[NamedParameter],
    params: OptimizerParams,
    *,
    lr: float,
    weight_decay: float,
    lr_by_role: Mapping[Role, float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """A group for every pair of weight decay and peak learning rate, those that decay first, then in the order given: the order is
    what a saved state is matched by.

    lr_by_role  peaks of some roles in place of `lr`; a parameter's own `lr_scale` multiplies either
    options     what goes into every group besides
    """
    roles, peaks = decaying_roles(params), lr_by_role or {}
    found: dict[tuple[bool, float], dict[str, Any]] = {}
    for item in parameters:
        decays, peak = item.role in roles, peaks.get(item.role, lr) * item.lr_scale
        empty = {"params": [], "weight_decay": weight_decay if decays else 0.0, "lr": peak, "initial_lr": peak, **(options or {})}
        found.setdefault((decays, peak), empty)["params"].append(item.parameter)
    return [group for _, group in sorted(found.items(), key=lambda pair: not pair[0][0])]


def fused(parameters: Sequence[NamedParameter]) -> bool:
    """Whether torch has one kernel for the whole update where these parameters lie."""
    return all(item.parameter.device.type in FUSED_DEVICES and item.parameter.is_floating_point() for item in parameters)
