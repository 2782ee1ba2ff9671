"""What each rank would hold and send in a step, from the spec alone: the model is cut and sharded over a process group that is none.

Held, in bytes. The model's shards are real ones, of no values, so that uneven ones are counted as they are:

    weights, gradients   4 a parameter of the shard (fp32; gradients are reduced in fp32 in every precision)
    optimizer            4 for every number that the optimizer keeps of a parameter in the parameter's shape
    gathered             the largest layer and all outside the layers, whole, as it computes (2 a number in bf16, else 4)

Activations are not counted: they depend on what is kept for the backward pass.

Sent, in bytes a rank and step, over rings (a collective over N ranks: (N - 1) / N of the whole for all-gather and reduce-scatter, twice
that for all-reduce), with M micro-batches of b sequences of T tokens, a activations' bytes a number, and n = dp_shard x cp shards:

    all_gather          M (2 layers + rest) (n - 1) / n: each layer for the forward and for the backward pass, the rest once;
                        with cp, M times keys and values of every layer (gathered)
    reduce_scatter      gradients once a step, with pp once a micro-batch, (n - 1) / n; with cp, M times those of keys and values
    all_reduce          gradients of the shard over dp_replicate, as often; with tp, M b T a times the channels of every sum
    point_to_point      with pp, M b T D a to the next stage and as much back
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import Batch
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.spec import Spec
from llmkit.train.parallel.engine import ParallelEngine
from llmkit.train.parallel.pipeline import PipelineEngine

FP32 = 4


@dataclass(frozen=True)
class RankAccount:
    """Of the first rank of a stage, whose shards are the largest; bytes."""

    stage: int
    layers: str
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    gathered: int
    all_gather: int
    reduce_scatter: int
    all_reduce: int
    point_to_point: int

    @property
    def held(self) -> int:
        """All that stays between steps, and the gradients."""
        return self.weights + self.gradients + self.optimizer


def account(spec: Spec) -> list[RankAccount]:
    """One row for every stage of the pipeline. `UserError` where the spec cannot be spread so."""
    parallel = spec.parallel
    if spec.train.batch_size % parallel.data_ranks:
        raise UserError(
            f"train.batch_size {spec.train.batch_size} cannot be shared evenly by {parallel.data_ranks} data ranks "
            f"(dp_replicate {parallel.dp_replicate} x dp_shard {parallel.dp_shard}); change one of them"
        )
    return [_of_stage(spec, stage) for stage in range(parallel.pp)]


def _of_stage(spec: Spec, stage: int) -> RankAccount:
    parallel = spec.parallel
    with _pretended(stage * (parallel.ranks // parallel.pp), parallel.ranks):
        engine: ParallelEngine = object.__new__(PipelineEngine if parallel.pp > 1 else ParallelEngine)
        engine.arrange(spec, torch.device("meta"))
        local = sum(piece.local.numel() for piece in engine.pieces)
        layers = list(getattr(engine.root, "layers", range(spec.model.n_layers)))
        kept = _kept(spec, engine.parameters)
        return RankAccount(
            stage,
            f"{layers[0]}-{layers[-1]}",
            local,
            local * FP32,
            local * FP32,
            sum(piece.local.numel() * kept[piece.name] for piece in engine.pieces) * FP32,
            **_sent(engine, layers),
        )


def _sent(engine: ParallelEngine, layers: list[int]) -> dict[str, int]:
    spec, mesh = engine.spec, engine.mesh
    parallel = spec.parallel
    size = _number(spec)
    rows = spec.train.batch_size // parallel.data_ranks
    micro = min(spec.train.micro_batch_size or rows, rows)
    micros = rows // micro
    tokens = micro * spec.seq_len // parallel.cp
    whole = {layer: _cut_size(engine.root.model.blocks[layer]) for layer in layers}
    rest = _cut_size(engine.root) - sum(whole.values())
    shards = parallel.dp_shard * parallel.cp
    reductions = micros if parallel.pp > 1 else 1
    gradients = (sum(whole.values()) + rest) * FP32
    keys = sum(_keys(engine, layer) for layer in layers) * micro * size if mesh.cp is not None else 0
    channels = sum(width for cut in (engine.cuts.summed, engine.cuts.copied) for where, width in cut.items() if _here(where, layers))
    own_parameters = sum(_whole_size(engine, piece.name) for piece in engine.pieces if _is_partial(engine, piece.name)) * FP32
    boundaries = (mesh.pp_rank > 0) + (mesh.pp_rank < parallel.pp - 1)
    over = _ring
    return {
        "gathered": (rest + max(whole.values())) * size,
        "all_gather": int(micros * ((2 * sum(whole.values()) + rest) * size * over(shards) + keys * over(parallel.cp))),
        "reduce_scatter": int(reductions * gradients * over(shards) + micros * keys * over(parallel.cp)),
        "all_reduce": int(
            2 * reductions * gradients / shards * over(parallel.dp_replicate)
            + 2 * (micros * tokens * channels * size + own_parameters) * over(parallel.tp)
        ),
        "point_to_point": micros * tokens * spec.model.d_model * size * boundaries,
    }


def _ring(ranks: int) -> float:
    return (ranks - 1) / ranks


def _number(spec: Spec) -> int:
    """Bytes of a number as the model computes: bf16 where the weights are lowered."""
    return 2 if spec.train.precision in ("bf16", "fp8", "auto") else FP32


def _here(where: str, layers: list[int]) -> bool:
    parts = where.split(".")
    return "blocks" not in parts or int(parts[parts.index("blocks") + 1]) in layers


def _cut_size(module: nn.Module) -> int:
    """Parameters of a module as tensor and pipeline parallelism leave them, before sharding."""
    return sum(parameter.numel() for parameter in module.parameters())


def _whole_size(engine: ParallelEngine, name: str) -> int:
    return math.prod(next(piece.shape for piece in engine.pieces if piece.name == name))


def _is_partial(engine: ParallelEngine, name: str) -> bool:
    return any(partial.removeprefix("model.") == name for partial in engine.cuts.partial)


def _keys(engine: ParallelEngine, layer: int) -> int:
    """Numbers of a sequence's keys and values that a layer gathers: its attention is run on the meta device, and what it asks for noted."""
    model, parts = engine.root.model, engine.spec.parallel.cp
    noted: list[int] = []

    def across(x: Tensor, dimension: int) -> Tensor:
        whole = torch.cat([x] * parts, dim=dimension)
        noted.append(whole.numel() if whole.dim() == 4 else 0)
        return whole

    before, model.across = model.across, across
    ids = torch.zeros(1, engine.spec.seq_len // parts, dtype=torch.int64, device="meta")
    with torch.no_grad():
        x = torch.empty(1, ids.shape[1], engine.spec.model.d_model, device="meta")
        _unsharded(model.blocks[layer].get_submodule("attention"))(x, model.context(Batch(ids, ids)))
    model.across = before
    return sum(noted)


def _unsharded(attention: nn.Module) -> nn.Module:
    """The same module with plain tensors of the shapes that it computes with."""
    for module in attention.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, device="meta")))
    return attention


def _kept(spec: Spec, parameters: list[NamedParameter]) -> dict[str, int]:
    """How many numbers the optimizer keeps for each number of a parameter: a step over small ones of the same roles tells."""
    small = [one._replace(parameter=nn.Parameter(torch.zeros([2] * one.parameter.dim()))) for one in parameters]
    optimizer = spec.train.optimizer.make().build(small)
    for one in small:
        one.parameter.grad = torch.ones_like(one.parameter)
    optimizer.step()
    return {
        one.name: sum(
            isinstance(value, Tensor) and value.shape == one.parameter.shape for value in optimizer.state.get(one.parameter, {}).values()
        )
        for one in small
    }


@contextmanager
def _pretended(rank: int, ranks: int) -> Iterator[None]:
    """A process group of so many ranks of which only this process exists, and which exchanges nothing."""
    if distributed.is_initialized():
        raise RuntimeError("a process group exists already")
    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    try:
        yield
    finally:
        distributed.destroy_process_group()
