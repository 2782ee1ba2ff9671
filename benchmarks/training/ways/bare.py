"""llmkit's model in the barest loop there is, on batches that are made before: what a training loop adds is measured from here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import torch
from torch import Tensor, nn

from benchmarks.training.shapes import Shape
from benchmarks.training.ways.ours import spec_of
from benchmarks.training.worker import Conductor, Job
from llmkit import build
from llmkit.core.interfaces.objective import Batch, Objective
from llmkit.core.site import Site
from llmkit.core.spec import Spec
from llmkit.train.allocator import keep_freed_memory
from llmkit.train.step import TrainStep


class Told(nn.Module):
    """The same module in transformers' words: keywords in, a mapping with the mean loss out."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.step(Batch(input_ids, labels)).total / labels.numel()}


def module_of(shape: Shape) -> Told:
    # As llmkit's own loop sets it, for all loops: what is compared is the loops.
    keep_freed_memory()
    spec = spec_of(shape, "fp32", False)
    return Told(TrainStep(build(spec), objective_of(spec)))


def objective_of(spec: Spec) -> Objective:
    model = spec.model
    return spec.train.objective.make(
        Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, spec.vocab_size, address="train.objective")
    )


def optimizer_of(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.1, fused=True)


def batches(shape: Shape) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and targets, over and over."""
    made = [torch.randint(shape.vocabulary, (shape.batch, shape.length + 1)) for _ in range(16)]
    return cycle([(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()) for tokens in made])


def train(job: Job, conductor: Conductor) -> None:
    conductor.begin()
    module = module_of(job.shape)
    optimizer = optimizer_of(module)
    for ids, targets in batches(job.shape):
        loss = module(ids, targets)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        conductor.tick()
