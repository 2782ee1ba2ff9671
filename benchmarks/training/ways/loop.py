"""The loop that every peer is trained by: forward, backward, clipping to 1, one fused AdamW step; fresh random tokens each step.

All peers get torch's fused AdamW, which their own trainers use on some devices only: on a processor it is five times as fast as the
loop over parameters that `torch.optim.AdamW` takes by default.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.training.worker import Conductor, Job

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, ids (B, T), targets (B, T)) -> mean loss."""


def train(job: Job, conductor: Conductor, build: Callable[[], nn.Module], loss_of: Loss) -> None:
    """Train for ever what `build` makes."""
    conductor.begin()
    model = build().to(job.device).train()
    if job.precision == "pure":
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    conductor.held = lambda: held(optimizer)
    module = torch.compile(model) if job.compiled else model
    shape = job.shape
    while True:
        tokens = torch.randint(shape.vocabulary, (shape.batch, shape.length + 1)).to(job.device)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.precision == "bf16"):
            loss = loss_of(module, tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # A trainer shows its loss.
        loss.item()
        conductor.tick()


def held(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, gradients and optimizer states."""
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return 2 * bytes_of(weights) + bytes_of(states)


def bytes_of(tensors: list[Tensor]) -> int:
    """Bytes of these tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
