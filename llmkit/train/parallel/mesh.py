"""Which rank does what: ranks as a grid, whose last axis runs over neighbours (which talk most).

    rank = (((pp * DP_REPLICATE + dp_replicate) * DP_SHARD + dp_shard) * CP + cp) * TP + tp

Ranks that differ in `dp_replicate` or `dp_shard` alone read different sequences; those that differ in `pp`, `cp` or `tp` the same.
Parameters are sharded over `dp_shard` and `cp` together, since all of those ranks have the same model and other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from llmkit.core.spec import ParallelSpec


@dataclass(frozen=True)
class Mesh:
    """This rank's place in the grid, and the groups that it talks with.

    data   (replicate, shard) or (shard,): over which parameters are replicated and sharded
    tp, cp, pp  the group along that axis, None where it is 1
    rank along each axis as a number; `data_rank` of `data_ranks` is the share of the batch that it reads
    """

    degrees: ParallelSpec
    data: DeviceMesh
    tp: distributed.ProcessGroup | None
    cp: distributed.ProcessGroup | None
    pp: distributed.ProcessGroup | None
    readers: distributed.ProcessGroup
    tp_rank: int
    cp_rank: int
    pp_rank: int
    data_rank: int

    @property
    def data_ranks(self) -> int:
        """Into how many shares a batch is cut."""
        return self.degrees.dp_replicate * self.degrees.dp_shard

    @property
    def shards(self) -> int:
        """Over how many ranks each parameter is sharded."""
        return self.degrees.dp_shard * self.degrees.cp

    @property
    def shard_rank(self) -> int:
        """Which of the shards this rank has."""
        return self.data_rank % self.degrees.dp_shard * self.degrees.cp + self.cp_rank

    @property
    def sharding(self) -> int:
        """Ranks over which the gradients of different tokens are averaged."""
        return self.data_ranks * self.degrees.cp

    def columns(self) -> list[list[int]]:
        """The ranks of every pipeline, from its first stage to its last."""
        apart = self.degrees.ranks // self.degrees.pp
        return [list(range(first, self.degrees.ranks, apart)) for first in range(apart)]


def make_mesh(parallel: ParallelSpec, device: torch.device) -> Mesh:
    """The grid over all ranks of the process group, which are as many as the spec asks for."""
    grid = init_device_mesh(
        "cpu" if device.type == "meta" else device.type,
        (parallel.pp, parallel.dp_replicate, parallel.dp_shard * parallel.cp, parallel.tp),
        mesh_dim_names=("pp", "dp_replicate", "fsdp", "tp"),
    )
    place = _place(parallel, distributed.get_rank())
    return Mesh(
        parallel,
        grid["dp_replicate", "fsdp"] if parallel.dp_replicate > 1 else grid["fsdp"],
        grid.get_group("tp") if parallel.tp > 1 else None,
        _context_group(parallel),
        grid.get_group("pp") if parallel.pp > 1 else None,
        _readers(parallel),
        place["tp"],
        place["cp"],
        place["pp"],
        share_of(parallel, distributed.get_rank()),
    )


def share_of(parallel: ParallelSpec, rank: int) -> int:
    """Which share of a batch a rank reads, without any group: ranks that hold parts of one model read the same."""
    if parallel.ranks == 1:
        return rank
    place = _place(parallel, rank)
    return place["dp_replicate"] * parallel.dp_shard + place["dp_shard"]


AXES = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
"""From the slowest to the fastest."""


def _place(parallel: ParallelSpec, rank: int) -> dict[str, int]:
    degrees, place = parallel.degrees(), {}
    for axis in reversed(AXES):
        rank, place[axis] = divmod(rank, degrees[axis])
    return place


def _context_group(parallel: ParallelSpec) -> distributed.ProcessGroup | None:
    return None if parallel.cp == 1 else _group_over(parallel, ("cp",))


def _readers(parallel: ParallelSpec) -> distributed.ProcessGroup:
    """The ranks that hold the same stage and the same cut, and read other tokens: over which a batch's sums go."""
    return _group_over(parallel, ("dp_replicate", "dp_shard", "cp"))


def _group_over(parallel: ParallelSpec, axes: tuple[str, ...]) -> distributed.ProcessGroup:
    """The ranks that differ from this one along these axes alone."""
    own: dict[tuple[int, ...], list[int]] = {}
    for rank in range(parallel.ranks):
        place = _place(parallel, rank)
        own.setdefault(tuple(place[axis] for axis in AXES if axis not in axes), []).append(rank)
    group: distributed.ProcessGroup
    group, _ = distributed.new_subgroups_by_enumeration(list(own.values()))  # type: ignore[no-untyped-call]
    return group
