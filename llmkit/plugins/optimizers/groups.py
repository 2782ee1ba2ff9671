"""Parameters in groups by whether they decay, and which kernel steps them."""

from __future__ import annotations

from collections.abc import Sequence
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


def by_decay(parameters: Sequence[NamedParameter], params: OptimizerParams, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """At most two groups, those that decay first, in the order given: the order is what a saved state is matched by."""
    roles = decaying_roles(params)
    decayed = [item.parameter for item in parameters if item.role in roles]
    others = [item.parameter for item in parameters if item.role not in roles]
    groups = ((decayed, weight_decay), (others, 0.0))
    return [{"params": members, "weight_decay": decay, "lr": lr, "initial_lr": lr} for members, decay in groups if members]


def fused(parameters: Sequence[NamedParameter]) -> bool:
    """Whether torch has one kernel for the whole update where these parameters lie."""
    return all(item.parameter.device.type in FUSED_DEVICES and item.parameter.is_floating_point() for item in parameters)
