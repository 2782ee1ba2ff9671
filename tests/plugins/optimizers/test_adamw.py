"""AdamW against the published update, written out in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.adamw import AdamW
from llmkit.plugins.optimizers.components import AdamWParams

SHAPES: dict[Role, tuple[int, ...]] = {"embedding": (7, 4), "matrix": (4, 3), "vector": (4,), "head": (7, 4)}


def parameters(seed: int = 0) -> list[NamedParameter]:
    generator = torch.Generator().manual_seed(seed)
    return [NamedParameter(role, torch.nn.Parameter(torch.randn(shape, generator=generator)), role) for role, shape in SHAPES.items()]


def gradients(step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(100 + step)
    return {role: random.normal(size=shape).astype(np.float32) for role, shape in SHAPES.items()}


def take_step(optimizer: torch.optim.Optimizer, named: Sequence[NamedParameter], step: int, factor: float = 1.0) -> None:
    for item in named:
        item.parameter.grad = torch.from_numpy(gradients(step)[item.name].copy())
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    optimizer.step()


def published_adamw(params: AdamWParams, w: np.ndarray, decay: float, name: str, factors: Sequence[float]) -> np.ndarray:
    """arXiv 1711.05101, algorithm 2, in fp64."""
    w, m, v = w.astype(np.float64), np.zeros(w.shape), np.zeros(w.shape)
    b1, b2 = params.betas
    for t, factor in enumerate(factors, start=1):
        g = gradients(t)[name].astype(np.float64)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        corrected = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + params.eps)
        w = w - factor * params.lr * (corrected + decay * w)
    return w


@pytest.mark.parametrize(("embeddings", "vectors"), [(False, False), (True, False), (False, True)])
def test_five_steps_equal_the_published_update_and_roles_decide_what_decays(embeddings: bool, vectors: bool) -> None:
    params = AdamWParams(lr=0.03, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.5, decay_embeddings=embeddings, decay_vectors=vectors)
    decay = {"matrix": 0.5, "head": 0.5, "embedding": 0.5 * embeddings, "vector": 0.5 * vectors}
    named = parameters()
    start = {item.name: item.parameter.detach().numpy().copy() for item in named}
    optimizer = AdamW(params).build(named)
    factors = (0.5, 1.0, 1.0, 0.7, 0.1)
    for t, factor in enumerate(factors, start=1):
        take_step(optimizer, named, t, factor)
    for item in named:
        expected = published_adamw(params, start[item.name], decay[item.role], item.name, factors)
        np.testing.assert_allclose(item.parameter.detach().numpy(), expected, rtol=2e-6, atol=2e-6)


def test_the_first_step_of_a_parameter_without_decay_is_the_learning_rate_in_the_direction_of_the_sign() -> None:
    named = parameters()
    before = {item.name: item.parameter.detach().clone() for item in named}
    take_step(AdamW(AdamWParams(lr=0.01, weight_decay=0.3)).build(named), named, 1)
    for item in named:
        if item.role in ("vector", "embedding"):
            change = item.parameter.detach() - before[item.name]
            torch.testing.assert_close(change, -0.01 * torch.from_numpy(np.sign(gradients(1)[item.name])), rtol=1e-3, atol=1e-6)


def test_saved_state_continues_bit_for_bit() -> None:
    straight, left, right = parameters(), parameters(), parameters(seed=1)
    build = AdamW(AdamWParams(lr=0.02)).build
    one, two = build(straight), build(left)
    for step in (1, 2, 3, 4):
        take_step(one, straight, step)
    for step in (1, 2):
        take_step(two, left, step)
    with torch.no_grad():
        for kept, fresh in zip(left, right):
            fresh.parameter.copy_(kept.parameter)
    three = build(right)
    three.load_state_dict(two.state_dict())
    for step in (3, 4):
        take_step(three, right, step)
    for a, b in zip(straight, right):
        assert torch.equal(a.parameter, b.parameter)


def test_groups_hold_every_parameter_once_in_the_order_given_and_carry_their_peak() -> None:
    named = parameters()
    optimizer = AdamW(AdamWParams(lr=0.25, weight_decay=0.5)).build(named)
    decaying = [item.parameter for item in named if item.role in ("matrix", "head")]
    others = [item.parameter for item in named if item.role in ("embedding", "vector")]
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [[id(p) for p in some] for some in (decaying, others)]
    assert [(group["initial_lr"], group["lr"]) for group in optimizer.param_groups] == [(0.25, 0.25)] * 2
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


def test_a_roles_own_learning_rate_replaces_the_common_one_and_lr_scale_multiplies_either() -> None:
    params = AdamWParams(lr=0.02, weight_decay=0.5, lr_by_role={"embedding": 0.3, "vector": 0.05})
    named = [item._replace(lr_scale=0.5) if item.name in ("embedding", "head") else item for item in parameters()]
    rates = {"embedding": 0.15, "matrix": 0.02, "vector": 0.05, "head": 0.01}
    start = {item.name: item.parameter.detach().numpy().copy() for item in named}
    optimizer = AdamW(params).build(named)
    for t in (1, 2, 3):
        take_step(optimizer, named, t, 0.5)
    for item in named:
        alone = params.model_copy(update={"lr": rates[item.role]})
        expected = published_adamw(alone, start[item.name], 0.5 * (item.role in ("matrix", "head")), item.name, (0.5,) * 3)
        np.testing.assert_allclose(item.parameter.detach().numpy(), expected, rtol=2e-6, atol=2e-6)


def test_groups_are_by_decay_and_rate_and_come_in_the_same_order_whatever_the_decay() -> None:
    for decay in (0.0, 0.1):
        optimizer = AdamW(AdamWParams(lr=0.1, weight_decay=decay, lr_by_role={"head": 0.2})).build(parameters())
        assert [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.1, decay), (0.2, decay), (0.1, 0)]


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValidationError, match="lr_by_role"):
        AdamWParams(lr_by_role={"matrices": 0.1})  # type: ignore[dict-item]


def test_the_state_holds_nothing_but_tensors_and_numbers() -> None:
    named = parameters()
    optimizer = AdamW(AdamWParams()).build(named)
    take_step(optimizer, named, 1)
    state = optimizer.state_dict()
    assert all(isinstance(value, torch.Tensor | int | float) for entry in state["state"].values() for value in entry.values())


def test_parameters_on_the_meta_device_get_an_optimizer_without_a_fused_kernel() -> None:
    named = [NamedParameter("w", torch.nn.Parameter(torch.empty(3, 3, device="meta")), "matrix")]
    assert AdamW(AdamWParams()).build(named).defaults["fused"] is False
