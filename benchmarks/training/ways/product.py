"""No model: the matrix products of a step, forward and backward, written into memory that is there already."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.training.worker import Conductor, Job


def train(job: Job, conductor: Conductor) -> None:
    conductor.begin()
    rows, dtype = job.shape.tokens, torch.float32 if job.precision == "fp32" else torch.bfloat16

    def matrix(*size: int) -> Tensor:
        return torch.randn(*size, dtype=dtype, device=job.device) * 0.02

    operands = [
        (count, matrix(rows, inputs), matrix(outputs, inputs), matrix(rows, outputs))
        for (outputs, inputs), count in job.shape.products().items()
    ]
    # Written into again and again: what a fresh gigabyte costs is not the product's.
    results = [tuple(torch.empty_like(operand) for operand in (y, x, weight)) for _, x, weight, y in operands]
    while True:
        for (count, x, weight, y), (forward, to_input, to_weight) in zip(operands, results, strict=True):
            for _ in range(count):
                torch.mm(x, weight.T, out=forward)
                torch.mm(y, weight, out=to_input)
                torch.mm(y.T, x, out=to_weight)
        conductor.tick()
