"""Tensor parallelism: matrices cut over ranks, as the components say (Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053).

A component offers a plan, `parallel`: its own linear layers, other modules and parameters, each with how it is cut.

    column    the output features: weight (out / N, in), bias (out / N)            x whole  -> y a part
    row       the input features:  weight (out, in / N), bias whole                x a part -> y summed over ranks
    <name>    like column, by whole heads: `name` is the attribute that counts them, which is then divided by N too
    partial   whole on every rank, and used for the rank's own heads alone: its gradient is summed over ranks
    shared    a linear layer that is whole on every rank, whose output every rank's own heads read: the output's gradient is summed

Parameters of the component's own: `column` cuts the last but one dimension, `row` the last, a name the first; where one of them is cut
by row, what goes into the component is whole and what comes out of it is a sum. What no plan names is computed whole, by every rank.

Two operations make it exact, each the other's gradient:  `copied` is x forward and a sum over ranks backward, `summed` the reverse.
Traffic a layer and micro-batch: a sum of (B, T, D) for every row cut in the forward pass, and in the backward pass one for every tensor
that column cuts read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.utils import _pytree as pytree

from llmkit.core.errors import UserError
from llmkit.core.interfaces.position import PositionHandle, Tables

KINDS = frozenset({"column", "row", "partial", "shared"})


class Ranks:
    """This rank among those that share matrices. Without a group nothing is exchanged: for counting alone."""

    def __init__(self, group: distributed.ProcessGroup | None, rank: int, ranks: int) -> None:
        self.group, self.rank, self.ranks = group, rank, ranks


class Cuts:
    """What was cut of a module.

    dimension  parameter name -> along which
    partial    names of parameters whose gradients are summed over ranks
    summed     channels of every tensor that is summed over ranks in the forward pass, by the address that does it
    copied     the same of the backward pass; column cuts of a component that read the same tensor are one
    """

    def __init__(self) -> None:
        self.summed: dict[str, int] = {}
        self.copied: dict[str, int] = {}
        self.dimension: dict[str, int] = {}
        self.partial: set[str] = set()


class _Entry:
    """Where a component's column cuts read: what several of them read is copied once, so that its gradient is summed over ranks once."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._x: Tensor | None = None
        self._copy: Tensor | None = None

    def enter(self, linear: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        if self._x is not inputs[0]:
            self._x, self._copy = inputs[0], copied(inputs[0], self._ranks)
        return (self._copy, *inputs[1:])

    def leave(self, *_: object) -> None:
        """After the component's forward pass: nothing is kept alive by this."""
        self._x = self._copy = None


def cut(root: nn.Module, ranks: Ranks) -> Cuts:
    """Cut every module of a model that offers a plan, in place. The model is on the meta device: shapes change, values come later.

    `UserError` where heads or features cannot be divided by the number of ranks.
    """
    cuts = Cuts()
    for address, module in list(root.named_modules()):
        plan = getattr(module, "parallel", None)
        if plan:
            _cut_component(module, address, plan, ranks, cuts)
    return cuts


def _cut_component(module: nn.Module, address: str, plan: dict[str, str], ranks: Ranks, cuts: Cuts) -> None:
    counts = {how for name, how in plan.items() if how not in KINDS and getattr(module, name, None) is not None}
    for count in sorted(counts):
        _divisible(f"{address}: {count}", getattr(module, count), ranks.ranks)
    rows, entry = [], _Entry(ranks)
    for name, how in plan.items():
        part = getattr(module, name, None)
        where = f"{address}.{name}"
        if isinstance(part, nn.Parameter):
            rows += [part] if how == "row" else []
            _cut_parameter(module, name, _own_dimension(part, how), where, ranks, cuts)
        elif isinstance(part, nn.Linear):
            _cut_linear(part, how, where, ranks, cuts, entry)
        elif part is not None:
            _mark(part, how, where, cuts)
    module.register_forward_hook(entry.leave)
    for count in counts:
        setattr(module, count, getattr(module, count) // ranks.ranks)
    for name, value in list(vars(module).items()):
        if isinstance(value, PositionHandle) and value.bias is not None and counts:
            setattr(module, name, value._replace(bias=_of_own_heads(value.bias, ranks)))
    if rows:
        # A row-cut stack is (..., out, in): what comes out of the component, and goes into it, is as wide.
        cuts.summed[address] = cuts.copied[address] = rows[0].shape[-2]
        _sum_component(module, ranks)


def _own_dimension(parameter: Tensor, how: str) -> int:
    return {"column": parameter.dim() - 2, "row": parameter.dim() - 1}.get(how, 0)


def _mark(part: nn.Module, how: str, where: str, cuts: Cuts) -> None:
    if how != "partial":
        raise TypeError(f"{where}: only a linear layer or a parameter can be cut {how!r}; a {type(part).__name__} may be 'partial'")
    cuts.partial.update(f"{where}.{name}" for name, _ in part.named_parameters())


def _cut_linear(linear: nn.Linear, how: str, where: str, ranks: Ranks, cuts: Cuts, entry: _Entry) -> None:
    if how == "partial":
        _mark(linear, how, where, cuts)
    elif how == "shared":
        cuts.copied[where] = linear.out_features
        linear.register_forward_hook(lambda module, inputs, output: copied(output, ranks))
    elif how == "row":
        _cut_parameter(linear, "weight", 1, f"{where}.weight", ranks, cuts)
        linear.forward = _row_forward(linear, ranks)  # type: ignore[method-assign, assignment]
        linear.in_features //= ranks.ranks
        cuts.summed[where] = linear.out_features
    else:
        _cut_parameter(linear, "weight", 0, f"{where}.weight", ranks, cuts)
        if linear.bias is not None:
            _cut_parameter(linear, "bias", 0, f"{where}.bias", ranks, cuts)
        linear.register_forward_pre_hook(entry.enter)
        linear.out_features //= ranks.ranks
        cuts.copied[f"{where.rpartition('.')[0]}.{linear.in_features}"] = linear.in_features


def _cut_parameter(module: nn.Module, name: str, dimension: int, where: str, ranks: Ranks, cuts: Cuts) -> None:
    whole = getattr(module, name)
    _divisible(f"{where}: dimension {dimension}", whole.shape[dimension], ranks.ranks)
    shape = [size // ranks.ranks if axis == dimension else size for axis, size in enumerate(whole.shape)]
    setattr(module, name, nn.Parameter(whole.new_empty(shape), requires_grad=whole.requires_grad))
    cuts.dimension[where] = dimension


def _divisible(what: str, size: int, ranks: int) -> None:
    if size % ranks:
        raise UserError(f"{what} is {size}, which parallel.tp {ranks} does not divide; choose a tp that does")


def _row_forward(linear: nn.Linear, ranks: Ranks) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        y = summed(F.linear(x, linear.weight), ranks)
        # After the sum, so that it is added once.
        return y if linear.bias is None else y + linear.bias

    return forward


def _sum_component(module: nn.Module, ranks: Ranks) -> None:
    """A component whose own parameters are cut: every tensor that goes in and has a gradient is whole, what comes out a part of a sum."""

    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return pytree.tree_map_only(Tensor, lambda one: copied(one, ranks) if one.requires_grad else one, inputs)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(lambda _, inputs, output: summed(output, ranks))


def _of_own_heads(bias: Callable[..., Tensor], ranks: Ranks) -> Callable[..., Tensor]:
    """A position's bias for the heads of this rank: their numbers begin after those of the ranks before."""

    def own(q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        shared = {name: copied(table, ranks) if table.requires_grad else table for name, table in tables.items()}
        return bias(q_pos, k_pos, head + ranks.rank * head.numel(), shared)

    return own


def copied(x: Tensor, ranks: Ranks) -> Tensor:
    """x itself; its gradient is the sum over ranks."""
    if ranks.group is None:
        return x
    y: Tensor = _Copied.apply(x, ranks.group)  # type: ignore[no-untyped-call]
    return y


def summed(x: Tensor, ranks: Ranks) -> Tensor:
    """The sum of x over ranks; the gradient is what it is."""
    if ranks.group is None:
        return x
    y: Tensor = _Summed.apply(x, ranks.group)  # type: ignore[no-untyped-call]
    return y


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: distributed.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _all_reduced(gradient, ctx.group), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: distributed.ProcessGroup) -> Tensor:
        return _all_reduced(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _all_reduced(x: Tensor, group: distributed.ProcessGroup) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total, group=group)
    return total
