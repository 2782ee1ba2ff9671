"""Schedule-free AdamW against the implementation of its authors."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.components import ScheduleFreeParams
from llmkit.plugins.optimizers.schedule_free import ScheduleFree

schedulefree = pytest.importorskip("schedulefree", reason="the authors' package is not installed")

SHAPES: dict[Role, tuple[int, ...]] = {"matrix": (40, 60), "vector": (5,)}
WARMUP = 5


def parameters() -> list[NamedParameter]:
    generator = torch.Generator().manual_seed(0)
    return [NamedParameter(role, nn.Parameter(torch.randn(shape, generator=generator)), role) for role, shape in SHAPES.items()]


def step_with(optimizer: torch.optim.Optimizer, named: Sequence[NamedParameter], step: int) -> None:
    for index, item in enumerate(named):
        item.parameter.grad = torch.randn(item.parameter.shape, generator=torch.Generator().manual_seed(100 * step + index))
    optimizer.step()


def warmed(optimizer: torch.optim.Optimizer, step: int) -> None:
    """A warm-up as a schedule makes it: (step + 1) / WARMUP, as the package's own."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * min((step + 1) / WARMUP, 1.0)


@pytest.mark.parametrize("reference", ["AdamWScheduleFree", "AdamWScheduleFreeReference"])
def test_training_and_evaluated_weights_equal_the_authors_when_the_schedule_warms_up_in_place_of_their_warm_up(reference: str) -> None:
    ours, theirs = parameters(), parameters()
    component = ScheduleFree(ScheduleFreeParams(lr=0.05, betas=(0.9, 0.95), weight_decay=0.3))
    optimizer = component.build(ours)
    groups = [{"params": [item.parameter], "weight_decay": 0.3 if item.role == "matrix" else 0.0} for item in theirs]
    authors = getattr(schedulefree, reference)(groups, lr=0.05, betas=(0.9, 0.95), warmup_steps=WARMUP)
    component.train_mode()
    authors.train()
    for step in range(20):
        warmed(optimizer, step)
        step_with(optimizer, ours, step)
        step_with(authors, theirs, step)
        for item, other in zip(ours, theirs):
            torch.testing.assert_close(item.parameter, other.parameter, rtol=1e-4, atol=1e-5)
    component.eval_mode()
    authors.eval()
    for item, other in zip(ours, theirs):
        torch.testing.assert_close(item.parameter, other.parameter, rtol=1e-4, atol=1e-5)


def test_the_evaluated_weights_are_the_average_of_the_steps_of_z() -> None:
    named = parameters()
    component = ScheduleFree(ScheduleFreeParams(lr=0.1, weight_decay=0.0))
    optimizer = component.build(named)
    steps = []
    for step in range(6):
        step_with(optimizer, named, step)
        steps.append(optimizer.state[named[0].parameter]["z"].clone())
    component.eval_mode()
    torch.testing.assert_close(named[0].parameter.detach(), torch.stack(steps).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_an_evaluation_gives_back_the_training_weights_bit_for_bit_where_the_package_rounds() -> None:
    ours, theirs = parameters(), parameters()
    component = ScheduleFree(ScheduleFreeParams(lr=0.05))
    optimizer, authors = component.build(ours), schedulefree.AdamWScheduleFree([item.parameter for item in theirs], lr=0.05)
    authors.train()
    for step in range(4):
        step_with(optimizer, ours, step)
        step_with(authors, theirs, step)
    before = [[item.parameter.detach().clone() for item in named] for named in (ours, theirs)]
    component.eval_mode()
    component.eval_mode()
    assert not torch.equal(ours[0].parameter, before[0][0])
    component.train_mode()
    component.train_mode()
    assert all(torch.equal(item.parameter, value) for item, value in zip(ours, before[0]))
    authors.eval()
    authors.train()
    assert not all(torch.equal(item.parameter, value) for item, value in zip(theirs, before[1]))


def test_a_step_in_evaluation_is_refused() -> None:
    named = parameters()
    component = ScheduleFree(ScheduleFreeParams())
    optimizer = component.build(named)
    step_with(optimizer, named, 0)
    component.eval_mode()
    with pytest.raises(RuntimeError, match=r"call train_mode\(\)"):
        step_with(optimizer, named, 1)


def test_modes_before_anything_is_built_or_stepped_do_nothing() -> None:
    component = ScheduleFree(ScheduleFreeParams())
    component.eval_mode()
    component.train_mode()
    named = parameters()
    component.build(named)
    component.eval_mode()
    component.train_mode()
    assert all(torch.equal(item.parameter, fresh.parameter) for item, fresh in zip(named, parameters()))
