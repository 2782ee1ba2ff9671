"""SGD against the update written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.components import SgdParams
from llmkit.plugins.optimizers.sgd import SGD

ROLES: tuple[Role, ...] = ("matrix", "vector")


def run(params: SgdParams, steps: int, *, reload_at: int | None = None) -> dict[str, np.ndarray]:
    named = [NamedParameter(role, torch.nn.Parameter(torch.full((2, 3) if role == "matrix" else (3,), 2.0)), role) for role in ROLES]
    optimizer = SGD(params).build(named)
    for step in range(steps):
        if step == reload_at:
            state = optimizer.state_dict()
            optimizer = SGD(params).build(named)
            optimizer.load_state_dict(state)
        for item in named:
            item.parameter.grad = torch.from_numpy(gradient(step, item.parameter.shape))
        optimizer.step()
    return {item.name: item.parameter.detach().numpy() for item in named}


def gradient(step: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(step).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_four_steps_equal_the_written_update_and_vectors_do_not_decay(momentum: float, nesterov: bool) -> None:
    params = SgdParams(lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.3)
    trained = run(params, 4)
    for name, decay in (("matrix", 0.3), ("vector", 0.0)):
        w = np.full(trained[name].shape, 2.0)
        buffer = np.zeros(w.shape)
        for step in range(4):
            g = gradient(step, w.shape) + decay * w
            buffer = momentum * buffer + g
            w = w - 0.1 * (g + momentum * buffer if nesterov else buffer)
        np.testing.assert_allclose(trained[name], w, rtol=1e-6, atol=1e-6)


def test_saved_momentum_continues_bit_for_bit() -> None:
    params = SgdParams(lr=0.1, momentum=0.9)
    straight, resumed = run(params, 5), run(params, 5, reload_at=3)
    assert all(np.array_equal(straight[role], resumed[role]) for role in ROLES)


def test_lr_scale_multiplies_the_learning_rate() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = SGD(SgdParams(lr=0.1)).build([NamedParameter("weight", weight, "matrix", lr_scale=0.25)])
    weight.grad = torch.ones(2, 3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 3), 1 - 0.025))


def test_nesterov_without_momentum_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValidationError, match="nesterov needs momentum above 0; raise momentum or drop nesterov"):
        SgdParams(momentum=0.0, nesterov=True)
