"""Laws of optimizers, on a quadratic and on a handful of parameters of every role."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer, Role
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

SHAPES: tuple[tuple[str, tuple[int, ...], Role], ...] = (
    ("embedding.weight", (7, 8), "embedding"),
    ("blocks.0.attention.query.weight", (8, 8), "matrix"),
    ("blocks.0.ffn.up.weight", (12, 8), "matrix"),
    ("norm.weight", (8,), "vector"),
    ("blocks.0.attention.query.bias", (8,), "vector"),
    ("head.weight", (7, 8), "head"),
)


def every_parameter_is_in_one_group(subject: Subject) -> None:
    """Every parameter is in exactly one group, in the same order every time, and each group has its `initial_lr` as its `lr`."""
    parameters = _parameters()
    optimizer, again = subject.make().build(parameters), subject.make().build(parameters)
    found = [[id(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
    for item in parameters:
        times = sum(group.count(id(item.parameter)) for group in found)
        if times != 1:
            raise LawBroken(f"{item.name} ({item.role}) is in {times} groups")
    if found != [[id(parameter) for parameter in group["params"]] for group in again.param_groups]:
        raise LawBroken("built twice from the same parameters, the groups come in another order, and saved state is matched by it")
    for index, group in enumerate(optimizer.param_groups):
        if "initial_lr" not in group:
            raise LawBroken(f"group {index} has no initial_lr, so the schedule cannot set its learning rate")
        if group["initial_lr"] != group["lr"]:
            raise LawBroken(f"group {index} starts with lr {group['lr']}, and its initial_lr is {group['initial_lr']}")


def a_quadratic_gets_smaller(subject: Subject) -> None:
    """Steps along the gradient of a quadratic make it smaller, whatever the role of the parameter."""
    parameters = _parameters()
    targets = [torch.randn(item.parameter.shape, generator=torch.Generator().manual_seed(9)) for item in parameters]
    maker: Optimizer = subject.make()
    optimizer = maker.build(parameters)
    maker.train_mode()
    before = [_distance(item.parameter, target) for item, target in zip(parameters, targets)]
    for _ in range(50):
        optimizer.zero_grad()
        loss = sum(((item.parameter - target).square().sum() / 2 for item, target in zip(parameters, targets)), torch.zeros(()))
        torch.autograd.backward(loss)
        optimizer.step()
    maker.eval_mode()
    for item, target, first in zip(parameters, targets, before):
        last = _distance(item.parameter, target)
        if not last < first:
            raise LawBroken(f"after 50 steps the distance of {item.name} ({item.role}) to its optimum, {first:.3g}, is {last:.3g}")


def state_goes_round(subject: Subject) -> None:
    """With its state saved, loaded and given to another copy, the next updates are the same bit for bit."""
    straight, parameters = _stepped(subject, 3)
    stored = io.BytesIO()
    torch.save(straight.state_dict(), stored)
    values = [item.parameter.detach().clone() for item in parameters]
    _step(straight, parameters, range(3, 5))
    resumed = [NamedParameter(item.name, nn.Parameter(value), item.role) for item, value in zip(parameters, values)]
    optimizer = subject.make().build(resumed)
    stored.seek(0)
    # weights_only refuses whatever is no tensor, number or plain container: a checkpoint never holds a pickled object.
    optimizer.load_state_dict(torch.load(stored, weights_only=True))
    _step(optimizer, resumed, range(3, 5))
    for item, other in zip(parameters, resumed):
        if not torch.equal(item.parameter, other.parameter):
            raise LawBroken(f"after 3 steps, a save and 2 steps more, {item.name} differs from 5 steps in one go")


def same_gradients_make_the_same_update(subject: Subject) -> None:
    """Two copies with the same gradients make the same updates: nothing random, nothing shared."""
    (_, first), (_, second) = _stepped(subject, 3), _stepped(subject, 3)
    for item, other in zip(first, second):
        if not torch.equal(item.parameter, other.parameter):
            raise LawBroken(f"after 3 equal steps of two copies, {item.name} differs")


def a_parameter_without_a_gradient_stays(subject: Subject) -> None:
    """A parameter without a gradient is left as it is."""
    parameters = _parameters()
    optimizer = subject.make().build(parameters)
    before = copy.deepcopy(parameters[1].parameter.detach())
    for step in range(2):
        _step(optimizer, parameters, range(step, step + 1), leaving_out=1)
    if not torch.equal(parameters[1].parameter, before):
        raise LawBroken(f"{parameters[1].name} had no gradient for 2 steps, and has changed")


def the_learning_rate_is_read_at_every_step(subject: Subject) -> None:
    """With every group's `lr` set to 0, as a schedule may, a step changes nothing."""
    optimizer, parameters = _stepped(subject, 2)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [item.parameter.detach().clone() for item in parameters]
    _step(optimizer, parameters, range(2, 3))
    for item, value in zip(parameters, before):
        if not torch.equal(item.parameter, value):
            raise LawBroken(f"with lr 0, a step changes {item.name}")


def _distance(parameter: Tensor, target: Tensor) -> float:
    return float((parameter.detach() - target).square().sum())


def _parameters() -> list[NamedParameter]:
    generator = torch.Generator().manual_seed(0)
    return [NamedParameter(name, nn.Parameter(torch.randn(shape, generator=generator)), role) for name, shape, role in SHAPES]


def _stepped(subject: Subject, steps: int) -> tuple[torch.optim.Optimizer, list[NamedParameter]]:
    parameters = _parameters()
    maker: Optimizer = subject.make()
    optimizer = maker.build(parameters)
    maker.train_mode()
    _step(optimizer, parameters, range(steps))
    return optimizer, parameters


def _step(optimizer: torch.optim.Optimizer, parameters: Sequence[NamedParameter], steps: range, leaving_out: int | None = None) -> None:
    for step in steps:
        for index, item in enumerate(parameters):
            item.parameter.grad = None if index == leaving_out else _gradient(step, index, item.parameter)
        optimizer.step()


def _gradient(step: int, index: int, parameter: Tensor) -> Tensor:
    return torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + index))


LAWS = (
    Law(every_parameter_is_in_one_group),
    Law(a_quadratic_gets_smaller),
    Law(state_goes_round),
    Law(same_gradients_make_the_same_update),
    Law(a_parameter_without_a_gradient_stays),
    Law(the_learning_rate_is_read_at_every_step),
)
