"""The same model in the plain loop of accelerate's documentation: prepare, backward, clip; a DataLoader of its own."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from benchmarks.training.shapes import Shape
from benchmarks.training.ways.bare import module_of, optimizer_of
from benchmarks.training.worker import Conductor, Job


class Sequences(Dataset):  # type: ignore[type-arg]
    """Random sequences."""

    def __init__(self, shape: Shape) -> None:
        self.tokens = torch.randint(shape.vocabulary, (100_000, shape.length + 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index, :-1], "labels": self.tokens[index, 1:]}


def train(job: Job, conductor: Conductor) -> None:
    conductor.begin()
    module = module_of(job.shape)
    accelerator = Accelerator(cpu=True)
    loader = DataLoader(Sequences(job.shape), batch_size=job.shape.batch, shuffle=True)
    module, optimizer, loader = accelerator.prepare(module, optimizer_of(module), loader)
    while True:
        for batch in loader:
            loss = module(**batch)["loss"]
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            conductor.tick()
