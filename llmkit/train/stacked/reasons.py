"""Which specs can be stacked, and why another cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from llmkit.core.interfaces.objective import Batch, Objective
from llmkit.core.spec import Spec
from llmkit.data.cache import key_of
from llmkit.train import precision, world
from llmkit.train.stacked.model import Stack

STACKABLE = "stackable"
"""Trait of an optimizer that updates parameters of several models, stacked along a first dimension, as it would each model's own."""

_TRIED: dict[str, str | None] = {}


def can_stack(spec: Spec) -> str | None:
    """None where several seeds of this spec can be trained as one stacked model, else the reason why not, for a person.

    What the spec does not say is tried: a forward and a backward pass of two models on the meta device, once for each shape.
    """
    return next(_reasons(spec), None)


def _reasons(spec: Spec) -> Iterator[str]:
    yield from _of_the_run(spec)
    train = spec.train
    became = precision.resolve("auto", world.device()) if train.precision == "auto" else train.precision
    if became != "fp32":
        yield f"train.precision is {became}; stacked models compute in fp32"
    if STACKABLE not in train.optimizer.component.offered(train.optimizer.params):
        yield f"optimizer {train.optimizer.type!r} does not offer {STACKABLE}: its update of a model may depend on the others'"
    objective = train.objective.component.resolve()
    if getattr(objective, "prepare", None) is not Objective.prepare:
        yield f"objective {train.objective.type!r} prepares its batches itself"
    if (reason := _tried(spec)) is not None:
        yield reason


def _of_the_run(spec: Spec) -> Iterator[str]:
    """What a run does beside its steps that a stack does not."""
    train = spec.train
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or spec.parallel.ranks > 1:
        yield "it runs on several processes"
    if train.spikes.policy in ("skip", "rollback"):
        yield f"train.spikes.policy {train.spikes.policy} leaves steps out, and stacked models take every step together"
    if train.sample_every is not None:
        yield "train.sample_every: it generates text on the way"
    if train.trackers:
        yield "train.trackers: each follows one run"
    for name, plain in (("compile", False), ("recompute", "none"), ("offload_optimizer", False)):
        if getattr(train, name) != plain:
            yield f"train.{name} is {getattr(train, name)}, which is of one model"


def _tried(spec: Spec) -> str | None:
    shape = spec.model_dump(mode="json")
    key = key_of([shape["model"], shape["train"]["objective"], spec.vocab_size, spec.seq_len, spec.data.mask_documents])
    if key not in _TRIED:
        _TRIED[key] = _trial(spec)
    return _TRIED[key]


def _trial(spec: Spec) -> str | None:
    stack = Stack([spec, spec], torch.device("meta"))
    for address, module in stack.root.named_modules():
        if hasattr(module, "after_step"):
            return f"{address.removeprefix('model.')} changes between steps by what its forward passes found (after_step)"
    if not all(parameter.requires_grad for parameter in stack.root.parameters()):
        return "some of its parameters are not trained"
    ids = torch.zeros(2, 1, spec.seq_len, dtype=torch.int64, device="meta")
    packed = ids if spec.data.mask_documents else None
    try:
        total, _ = stack.losses(Batch(ids, ids, packed, packed))
        torch.autograd.backward(total.sum())
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        return f"torch cannot run it as a batch of models: {str(error).strip().splitlines()[0]}"
    return None
