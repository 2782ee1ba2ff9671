"""One optimizer step of a stack: gradients, their norm and its limit for each model by itself, and one update of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from llmkit.core.interfaces.objective import Batch
from llmkit.core.spec import Spec
from llmkit.train import checkpoint as checkpoints
from llmkit.train.checkpoint import State
from llmkit.train.stacked.model import Stack


class StackedEngine:
    """What `llmkit.train.engine` is for one model, for several that are stacked.

    optimizer  torch's, over the stacked parameters: it updates each model as it would by itself
    """

    def __init__(self, specs: Sequence[Spec], device: torch.device) -> None:
        self.stack = Stack(specs, device)
        self.component = specs[0].train.optimizer.make()
        self.optimizer: torch.optim.Optimizer = self.component.build(self.stack.parameters)
        self._parameters = [one.parameter for one in self.stack.parameters]
        self.component.train_mode()

    def gradients(self, micros: Sequence[Batch], counts: Tensor) -> Tensor:
        """Forward and backward over the micro-batches of a step, (S, B, T) each; each model's loss summed over its counted tokens, (S,).

        counts  (S,): what each model's loss is divided by
        """
        reported = []
        for batch in micros:
            total, loss = self.stack.losses(batch)
            torch.autograd.backward((total / counts).sum())
            reported.append(loss.detach())
        return torch.stack(reported).sum(dim=0)

    def clip(self, largest: float | None) -> Tensor:
        """Scale each model's gradients so that their joint norm is at most this; the norms that they had, (S,)."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        norm: Tensor = torch.linalg.vector_norm(norms, dim=0)
        if largest is not None:
            # As `torch.nn.utils.clip_grad_norm_` has it.
            factor = (largest / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
        return norm

    def update(self) -> None:
        """The optimizer's step, and gradients dropped."""
        self.optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Schedule-free optimizers evaluate and save other weights than they train."""
        self.component.eval_mode()
        try:
            yield
        finally:
            self.component.train_mode()

    def states(self, step: int, trainers: Sequence[dict[str, object]]) -> list[State]:
        """What a checkpoint of each model holds: what a run of its own would have saved."""
        with self.evaluating():
            whole = checkpoints.state_of(step, {}, optimizer=self.optimizer, parameters=self.stack.parameters, trainer={})
            shapes = {one.name: one.parameter.shape for one in self.stack.parameters}
            states = []
            for index, trainer in enumerate(trainers):
                optimizer = {
                    key: value[index] if value.shape == shapes[key.rpartition("/")[0]] else value
                    for key, value in (whole.optimizer or {}).items()
                }
                record = checkpoints.state_of(step, {}, trainer=trainer).trainer
                # Copied here: what an optimizer evaluates by is gone when training goes on.
                states.append(replace(whole, weights=self.stack.saved(index), trainer=record, optimizer=optimizer).copied())
        return states
