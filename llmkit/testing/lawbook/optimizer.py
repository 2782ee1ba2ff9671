"""Laws of optimizers, on a quadratic and on a handful of parameters of every role."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer, Role
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.model import same
from llmkit.testing.subject import Subject

SHAPES: tuple[tuple[str, tuple[int, ...], Role], ...] = (
    ("embedding.weight", (7, 8), "embedding"),
    ("blocks.0.attention.query.weight", (8, 8), "matrix"),
    ("blocks.0.ffn.up.weight", (12, 8), "matrix"),
    ("blocks.0.ffn.experts.up", (3, 6, 8), "matrix"),
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
    maker, optimizer = _built(subject, parameters)
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
    """With its state saved as a checkpoint is, loaded and given to another copy, the next updates are the same bit for bit."""
    parameters = _parameters()
    maker, straight = _built(subject, parameters)
    _step(straight, parameters, range(3))
    maker.eval_mode()
    stored = io.BytesIO()
    torch.save(straight.state_dict(), stored)
    resumed = [item._replace(parameter=nn.Parameter(item.parameter.detach().clone())) for item in parameters]
    maker.train_mode()
    _step(straight, parameters, range(3, 5))
    other: Optimizer = subject.make()
    optimizer = other.build(resumed)
    stored.seek(0)
    # weights_only refuses whatever is no tensor, number or plain container: a checkpoint never holds a pickled object.
    optimizer.load_state_dict(torch.load(stored, weights_only=True))
    other.train_mode()
    _step(optimizer, resumed, range(3, 5))
    for item, again in zip(parameters, resumed):
        if not torch.equal(item.parameter, again.parameter):
            raise LawBroken(f"after 3 steps, a save and 2 steps more, {item.name} differs from 5 steps in one go")


def an_evaluation_changes_nothing(subject: Subject) -> None:
    """Between `eval_mode` and `train_mode` nothing of the training changes, bit for bit: one rank alone may look, as often as it likes."""
    _, expected = _stepped(subject, 5)
    parameters = _parameters()
    maker, optimizer = _built(subject, parameters)
    for step in range(5):
        maker.eval_mode()
        maker.train_mode()
        _step(optimizer, parameters, range(step, step + 1))
    for item, other in zip(parameters, expected):
        if not torch.equal(item.parameter, other.parameter):
            raise LawBroken(f"with eval_mode and train_mode before each of 5 steps, {item.name} differs from 5 steps in one go")


def lr_scale_is_a_factor_on_the_learning_rate(subject: Subject) -> None:
    """A parameter with `lr_scale` 0.5 moves as with half the learning rate, and the others move as ever."""
    chosen = 1
    _, plain = _stepped(subject, 3)
    halved = _parameters()
    _, optimizer = _built(subject, halved)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] / 2
    _step(optimizer, halved, range(3))
    scaled = _parameters()
    scaled[chosen] = scaled[chosen]._replace(lr_scale=0.5)
    _, optimizer = _built(subject, scaled)
    _step(optimizer, scaled, range(3))
    for index, item in enumerate(scaled):
        expected, factor = (halved, 0.5) if index == chosen else (plain, 1)
        otherwise = f"{item.name} has lr_scale {factor:g}, and does not move as with {factor:g} times the learning rate"
        same(item.parameter.detach(), expected[index].parameter.detach(), otherwise)


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


def what_is_kept_of_a_gradient_is_a_copy(subject: Subject) -> None:
    """With the memory of each gradient overwritten after its step, as the next one's is, the updates are the same."""
    parameters = _parameters()
    others = [item._replace(parameter=nn.Parameter(item.parameter.detach().clone())) for item in parameters]
    (_, straight), (_, other) = _built(subject, parameters), _built(subject, others)
    for step in range(3):
        _step(straight, parameters, range(step, step + 1))
        _step(other, others, range(step, step + 1))
        for item in others:
            if item.parameter.grad is not None:
                item.parameter.grad.fill_(7)
    for item, overwritten in zip(parameters, others):
        if not torch.equal(item.parameter, overwritten.parameter):
            raise LawBroken(f"with gradients overwritten after each of 3 steps, {item.name} differs: clone what is kept of one")


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


def models_in_one_tensor_learn_as_by_themselves(subject: Subject) -> None:
    """With the trait `stackable`, two models whose parameters lie in one tensor move as each would alone."""
    if "stackable" not in subject.component.offered(subject.params):
        return
    models = [_parameters(), [item._replace(parameter=nn.Parameter(item.parameter.detach() * -3)) for item in _parameters()]]
    stacked = [
        one._replace(parameter=nn.Parameter(torch.stack([one.parameter.detach(), other.parameter.detach()]))) for one, other in zip(*models)
    ]
    makers = [_built(subject, parameters) for parameters in (*models, stacked)]
    for step in range(4):
        gradients = [[_gradient(step, 50 * model + index, item.parameter) for index, item in enumerate(models[model])] for model in (0, 1)]
        for parameters, found in zip(models, gradients):
            for item, gradient in zip(parameters, found):
                item.parameter.grad = gradient
        for item, both in zip(stacked, zip(*gradients)):
            item.parameter.grad = torch.stack(both)
        for _, optimizer in makers:
            optimizer.step()
    for maker, _ in makers:
        maker.eval_mode()
    for index, item in enumerate(stacked):
        for model, parameters in enumerate(models):
            same(
                item.parameter.detach()[model],
                parameters[index].parameter.detach(),
                f"{item.name}, stacked with another model's, moves otherwise",
            )


def _distance(parameter: Tensor, target: Tensor) -> float:
    return float((parameter.detach() - target).square().sum())


def _parameters() -> list[NamedParameter]:
    generator = torch.Generator().manual_seed(0)
    return [NamedParameter(name, nn.Parameter(torch.randn(shape, generator=generator)), role) for name, shape, role in SHAPES]


def _built(subject: Subject, parameters: Sequence[NamedParameter]) -> tuple[Optimizer, torch.optim.Optimizer]:
    """The component, and the torch optimizer that it made, about to train."""
    maker: Optimizer = subject.make()
    optimizer = maker.build(parameters)
    maker.train_mode()
    return maker, optimizer


def _stepped(subject: Subject, steps: int) -> tuple[torch.optim.Optimizer, list[NamedParameter]]:
    parameters = _parameters()
    _, optimizer = _built(subject, parameters)
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
    Law(an_evaluation_changes_nothing),
    Law(lr_scale_is_a_factor_on_the_learning_rate),
    Law(same_gradients_make_the_same_update),
    Law(a_parameter_without_a_gradient_stays),
    Law(what_is_kept_of_a_gradient_is_a_copy),
    Law(the_learning_rate_is_read_at_every_step),
    Law(models_in_one_tensor_learn_as_by_themselves),
)
