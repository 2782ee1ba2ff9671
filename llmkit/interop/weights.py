"""Weight maps as data: which of a file's tensors are which of ours, and what lies between. Every operation can be undone, bit for bit.

A rule's names are patterns: `{layer}` counts layers, `{expert}` experts, `{part}` is weight or bias. A rule applies to the layers whose
model has all of its parameters, so that one table serves models with and without biases, dense and sparse layers.

    ours                                  theirs                                              operation
    blocks.{layer}.attention.query.{part} model.layers.{layer}.self_attn.q_proj.{part}        Rotary()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from llmkit.interop.anatomy import Anatomy, Layer

Shape = Sequence[int]


class Operation:
    """What turns a file's tensors into ours, and back. As it stands, it changes nothing."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        """The file's tensors -> ours, which have these shapes."""
        return theirs

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        """Our tensors -> the file's."""
        return ours


class Transposed(Operation):
    """Matrices that are (in, out) in the file (GPT-2's Conv1D)."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return [tensor.t() for tensor in theirs]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return [tensor.t() for tensor in ours]


class Joined(Operation):
    """Several of ours are one tensor in the file, one below the other (Phi-3)."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return list(torch.split(theirs[0], [shape[0] for shape in shapes]))

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return [torch.cat(ours)]


class JoinedByHead(Operation):
    """Several of ours are one tensor in the file, head by head: all parts of the first head, then of the second (GPT-NeoX, DeepSeek)."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        count = layer.attention["n_heads"]
        heads = torch.unflatten(theirs[0], 0, (count, -1))
        return [part.flatten(0, 1) for part in torch.split(heads, [shape[0] // count for shape in shapes], dim=1)]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        heads = [torch.unflatten(tensor, 0, (layer.attention["n_heads"], -1)) for tensor in ours]
        return [torch.cat(heads, dim=1).flatten(0, 1)]


class Stacked(Operation):
    """One tensor an expert in the file, all of them one stacked tensor here."""

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return [torch.stack(theirs)]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return list(ours[0].unbind())


@dataclass(frozen=True)
class Rotary(Operation):
    """Rows of heads that are turned: pairs are halves in the file, and neighbours here where the spec says `layout: interleaved`.

    first   how many of the tensors are turned: of queries, keys and values the first two
    """

    first: int = 1

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        return [*(_repaired(tensor, layer, (2, -1)) for tensor in theirs[: self.first]), *theirs[self.first :]]

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        return [*(_repaired(tensor, layer, (-1, 2)) for tensor in ours[: self.first]), *ours[self.first :]]


@dataclass(frozen=True)
class Then(Operation):
    """Operations one after the other, from the file's side."""

    steps: tuple[Operation, ...]

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape], layer: Layer) -> list[Tensor]:
        for step in self.steps:
            theirs = step.inward(theirs, shapes, layer)
        return theirs

    def outward(self, ours: list[Tensor], layer: Layer) -> list[Tensor]:
        for step in reversed(self.steps):
            ours = step.outward(ours, layer)
        return ours


SAME = Operation()
PARTS = ("weight", "bias")


@dataclass(frozen=True)
class Rule:
    """A row of a weight map."""

    ours: str | tuple[str, ...]
    theirs: str
    operation: Operation = SAME


class Link(NamedTuple):
    """A rule at one place: the names of our parameters and of the file's tensors."""

    ours: list[str]
    theirs: list[str]
    operation: Operation
    layer: Layer

    def inward(self, theirs: list[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """The file's tensors -> ours."""
        return [tensor.contiguous() for tensor in self.operation.inward(theirs, shapes, self.layer)]

    def outward(self, ours: list[Tensor]) -> list[Tensor]:
        """Our tensors -> the file's, each with memory of its own: a file takes no two views of one."""
        return [tensor.clone(memory_format=torch.contiguous_format) for tensor in self.operation.outward(ours, self.layer)]


def links(rules: Sequence[Rule], anatomy: Anatomy, parameters: Mapping[str, Shape]) -> list[Link]:
    """Every rule at every place where the model has its parameters, in the order of the model.

    parameters  what the model saves: name -> shape. One that no rule names is a mistake of the map: `KeyError`
    """
    found = [link for rule in rules for link in _places(rule, anatomy, parameters)]
    named = {name for link in found for name in link.ours}
    missing = [name for name in parameters if name not in named]
    if missing:
        raise KeyError(f"the weight map has no rule for {', '.join(missing[:5])}")
    order = {name: index for index, name in enumerate(parameters)}
    return sorted(found, key=lambda link: order[link.ours[0]])


def _places(rule: Rule, anatomy: Anatomy, parameters: Mapping[str, Shape]) -> Iterator[Link]:
    ours = (rule.ours,) if isinstance(rule.ours, str) else rule.ours
    layered = "{layer}" in rule.theirs
    for index, layer in enumerate(anatomy.layers if layered else anatomy.layers[:1]):
        for part in PARTS if "{part}" in rule.theirs else PARTS[:1]:
            names = [name.format(layer=index, part=part) for name in ours]
            if all(name in parameters for name in names):
                experts = range(parameters[names[0]][0]) if "{expert}" in rule.theirs else range(1)
                theirs = [rule.theirs.format(layer=index, part=part, expert=expert) for expert in experts]
                yield Link(names, theirs, rule.operation, layer)


def _repaired(tensor: Tensor, layer: Layer, pairs: tuple[int, int]) -> Tensor:
    """Rows (H K, ...) with the turned channels of every head read as a table of this shape, column by column."""
    if not layer.interleaved:
        return tensor
    heads = torch.unflatten(tensor, 0, (-1, layer.attention["head_width"]))
    turned = layer.rotary_width
    rows = torch.unflatten(heads[:, :turned], 1, pairs).transpose(1, 2).flatten(1, 2)
    return torch.cat([rows, heads[:, turned:]], dim=1).flatten(0, 1)
