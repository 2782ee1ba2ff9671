"""What one rank holds of each parameter: a piece, cut from the whole by tensor parallelism and then sharded with FSDP2.

The optimizer steps plain tensors that lie where the shards lie, so that any element-wise optimizer of anyone's works unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from llmkit.train.parallel.mesh import Mesh


@dataclass
class Piece:
    """One parameter on this rank.

    name       its saved name
    shape      of the whole
    sharded    the module's own parameter, a DTensor
    local      what lies on this rank of it, the same memory: what the optimizer updates
    dimension  along which tensor parallelism cuts it; None where every rank of the group has all of it
    holders    stages of the pipeline that hold it: more than one where it is tied
    """

    name: str
    shape: torch.Size
    sharded: DTensor
    local: nn.Parameter
    dimension: int | None
    holders: Sequence[int]

    def take(self, whole: Tensor, mesh: Mesh) -> Tensor:
        """This rank's piece of a whole tensor of the parameter's shape."""
        if self.dimension is not None:
            whole = whole.chunk(mesh.degrees.tp, dim=self.dimension)[mesh.tp_rank]
        # torch.chunk's rule, as FSDP2's: all but the last ones are of the same size, and the last may have nothing.
        parts = whole.chunk(mesh.shards)
        return parts[mesh.shard_rank] if mesh.shard_rank < len(parts) else whole.narrow(0, 0, 0)

    def gather(self, local: Tensor, mesh: Mesh) -> Tensor:
        """The whole of which every rank has its piece: the parameter itself, or what an optimizer keeps of it. All ranks call it."""
        whole = _unsharded(local.detach(), self.sharded.shape[0], mesh)
        if self.dimension is None or mesh.tp is None:
            return whole
        return torch.cat(_all_gathered(whole, mesh.degrees.tp, mesh.tp), dim=self.dimension)

    def copies(self, mesh: Mesh) -> int:
        """How many ranks hold the same numbers."""
        shared = 1 if self.dimension is not None else mesh.degrees.tp
        return mesh.degrees.dp_replicate * shared * len(self.holders)


def _unsharded(local: Tensor, rows: int, mesh: Mesh) -> Tensor:
    if mesh.shards == 1:
        return local
    # Ranks exchange tensors of one size: the last ones are padded.
    most = -(-rows // mesh.shards)
    padded = local.new_zeros(most, *local.shape[1:])
    padded[: len(local)] = local
    return torch.cat(_all_gathered(padded, mesh.shards, mesh.data.get_group(mesh.data.ndim - 1)))[:rows]


def _all_gathered(x: Tensor, ranks: int, group: distributed.ProcessGroup) -> list[Tensor]:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(ranks)]
    distributed.all_gather(parts, x.contiguous(), group=group)
    return parts


def local_of(parameter: DTensor) -> nn.Parameter:
    """The memory of a shard as a parameter of its own."""
    return nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)


def squared_norm(pieces: Sequence[Piece], mesh: Mesh) -> Tensor:
    """The sum of squares of all gradients of the whole model, fp64, the same on every rank."""
    total = torch.zeros((), dtype=torch.float64, device=pieces[0].local.device)
    for piece in pieces:
        if piece.local.grad is not None:
            total += piece.local.grad.float().square().sum().double() / piece.copies(mesh)
    distributed.all_reduce(total)
    return total
