"""Lion against the published program, written out in numpy."""

from __future__ import annotations

import numpy as np
import torch

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.components import LionParams
from llmkit.plugins.optimizers.lion import Lion

SHAPES: dict[Role, tuple[int, ...]] = {"matrix": (4, 3), "vector": (5,)}


def gradient(step: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(step).normal(size=shape).astype(np.float32)


def published_lion(params: LionParams, w: np.ndarray, decay: float, steps: int) -> np.ndarray:
    """arXiv 2302.06675, program 1, in fp64."""
    w, momentum = w.astype(np.float64), np.zeros(w.shape)
    b1, b2 = params.betas
    for step in range(steps):
        g = gradient(step, w.shape).astype(np.float64)
        update = np.sign(g * (1 - b1) + momentum * b1)
        momentum = g * (1 - b2) + momentum * b2
        w = w - params.lr * (update + w * decay)
    return w


def test_eight_steps_equal_the_published_program_and_vectors_do_not_decay() -> None:
    params = LionParams(lr=0.02, betas=(0.8, 0.95), weight_decay=0.7)
    named = [NamedParameter(role, torch.nn.Parameter(torch.full(shape, 1.5)), role) for role, shape in SHAPES.items()]
    optimizer = Lion(params).build(named)
    for step in range(8):
        for item in named:
            item.parameter.grad = torch.from_numpy(gradient(step, item.parameter.shape))
        optimizer.step()
    for item, decay in zip(named, (0.7, 0.0)):
        expected = published_lion(params, np.full(item.parameter.shape, 1.5), decay, 8)
        np.testing.assert_allclose(item.parameter.detach().numpy(), expected, rtol=2e-6)


def test_its_state_is_one_number_a_parameter() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = Lion(LionParams()).build([NamedParameter("weight", weight, "matrix")])
    weight.grad = torch.ones(4, 3)
    optimizer.step()
    assert [value.shape for value in optimizer.state_dict()["state"][0].values()] == [weight.shape]
