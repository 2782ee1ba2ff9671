"""Context parallelism: every sequence cut over ranks, each with the queries of its own tokens and, gathered, the keys and values of all.

    rank r of N has tokens r T / N .. (r + 1) T / N - 1 of each sequence, and computes  softmax(q_r [k_0 .. k_N-1]^T + mask) [v_0 .. v_N-1]

It is exact, for any mask and bias: keys carry their positions. Activations, and the scores, are a part of N; keys and values of one
layer at a time are whole (as in Llama 3's, arXiv 2407.21783, section 3.3.2). torch's own `context_parallel` has no kernel for the CPU.
Traffic a layer and micro-batch: keys and values gathered in the forward pass, their gradients summed and scattered in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import Batch
from llmkit.model.decoder import Decoder


def own_part(batch: Batch, rank: int, ranks: int) -> Batch:
    """This rank's tokens of every sequence, with their positions in it. `UserError` where the batch has more than tokens have."""
    if batch.extra is not None:
        raise UserError("parallel.cp cannot cut what an objective adds to its batches; set parallel.cp to 1, or choose another objective")
    positions = batch.positions
    if positions is None:
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)

    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.chunk(ranks, dim=1)[rank]

    ids, targets = batch.ids.chunk(ranks, dim=1)[rank], batch.targets.chunk(ranks, dim=1)[rank]
    return Batch(ids, targets, part(positions), part(batch.segments), part(batch.weights), batch.item_ids)


def cut_sequences(model: Decoder, group: distributed.ProcessGroup, ranks: int) -> None:
    """Let a model read parts of sequences. Its blocks may then return no loss of a sequence: `UserError` in the first forward pass."""
    model.across = gathering(group, ranks)
    for layer, block in enumerate(model.blocks):
        block.register_forward_hook(partial(_refuse_losses, layer))


def _refuse_losses(layer: int, block: nn.Module, inputs: Any, output: tuple[Tensor, Aux]) -> None:
    if output[1].losses:
        names = ", ".join(output[1].losses)
        raise UserError(
            f"parallel.cp cuts sequences, and block {layer} returns losses of whole ones ({names}); set it to 1, or leave those out"
        )


def gathering(group: distributed.ProcessGroup, ranks: int) -> Callable[[Tensor, int], Tensor]:
    """What makes a tensor of a sequence's part one of the whole sequence, along a dimension."""

    def gather(x: Tensor, dimension: int) -> Tensor:
        y: Tensor = _Gathered.apply(x, dimension, group, ranks)  # type: ignore[no-untyped-call]
        return y

    return gather


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dimension: int, group: distributed.ProcessGroup, ranks: int) -> Tensor:
        ctx.dimension, ctx.group, ctx.ranks = dimension, group, ranks
        parts = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(ranks)]
        distributed.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, dim=dimension)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        parts = torch.stack(gradient.chunk(ctx.ranks, dim=ctx.dimension))
        own = torch.empty(parts.shape[1:], dtype=parts.dtype, device=parts.device)
        distributed.reduce_scatter_tensor(own, parts.flatten(0, 1), group=ctx.group)
        return own, None, None, None
