"""What cannot be combined with `parallel`, told before any rank waits for another."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.model.decoder import Decoder

WHOLE = "whole_matrices"
"""Trait of an optimizer whose update of a matrix depends on all of it."""


def plain(spec: Spec) -> bool:
    """Whether every rank has the whole model, so that nothing but the batch is shared."""
    parallel = spec.parallel
    return parallel.dp_shard == parallel.tp == parallel.cp == parallel.pp == 1


def check(spec: Spec) -> None:
    """`UserError` that names the combination which is not supported."""
    if plain(spec):
        return
    for problem in _problems(spec):
        raise UserError(problem)


def check_ranks(spec: Spec, ranks: int) -> None:
    """`UserError` where so many ranks cannot run the spec: before any of them starts."""
    parallel = spec.parallel
    if parallel.ranks not in (1, ranks):
        degrees = " x ".join(f"{name} {degree}" for name, degree in parallel.degrees().items() if degree > 1)
        raise UserError(
            f"parallel asks for {parallel.ranks} ranks ({degrees}), and there are {ranks}; "
            f"start {parallel.ranks} (`--processes {parallel.ranks}` on one machine), or change a degree"
        )
    readers = ranks if parallel.ranks == 1 else parallel.data_ranks
    if spec.train.batch_size % readers:
        what = f"{readers} processes" if readers == ranks else f"{readers} data ranks (dp_replicate x dp_shard)"
        raise UserError(f"train.batch_size {spec.train.batch_size} cannot be shared evenly by {what}; change one of them")
    if parallel.pp > 1:
        _check_micro_batches(spec, readers)
    check(spec)


def check_model(spec: Spec) -> None:
    """`UserError` where the model itself cannot be cut as `parallel` says; nothing of it is made but shapes."""
    from llmkit.model.build import build
    from llmkit.train.engine import make_objective
    from llmkit.train.parallel.tensor import Ranks, cut

    parallel = spec.parallel
    if parallel.tp == parallel.pp == 1:
        return
    model = build(spec, device="meta")
    check_stages(parallel.pp, model, make_objective(spec))
    cut(model, Ranks(None, 0, parallel.tp))


def check_stages(stages: int, model: Decoder, objective: nn.Module) -> None:
    """`UserError` where a model cannot be cut into so many stages of layers."""
    if stages == 1:
        return
    if len(model.blocks) < stages:
        raise UserError(f"model.n_layers {len(model.blocks)} are fewer than the stages of parallel.pp {stages}; lower parallel.pp")
    if any(True for _ in model.positions.parameters()):
        raise UserError(f"model.position has parameters that layers share, and parallel.pp {stages} cuts the layers apart; set it to 1")
    if any(True for _ in objective.parameters()):
        raise UserError(f"train.objective has parameters of its own, which parallel.pp {stages} does not support; set it to 1")


def _check_micro_batches(spec: Spec, readers: int) -> None:
    stages, train = spec.parallel.pp, spec.train
    rows = train.batch_size // readers
    micro = min(train.micro_batch_size or rows, rows)
    share = f"the {rows} sequences that each of {readers} data ranks has" if readers > 1 else f"train.batch_size {rows}"
    if rows % micro:
        raise UserError(
            f"parallel.pp {stages} needs micro-batches of one size, and train.micro_batch_size {micro} does not divide {share}; "
            "change one of them"
        )
    if spec.parallel.schedule == "1f1b" and rows // micro < stages:
        remedy = f"train.micro_batch_size to {rows // stages}" if rows >= stages else f"train.batch_size to {stages * readers} or more"
        raise UserError(
            f"parallel.pp {stages} needs a micro-batch for every stage, and {share} in micro-batches of {micro} is {rows // micro}; "
            f"set {remedy}, or parallel.schedule to gpipe"
        )


def _context(spec: Spec) -> Iterator[str]:
    for address, kind, chosen in spec.slots():
        if kind in (Kind.attention, Kind.objective) and not getattr(chosen.component.resolve(), "context_parallel", False):
            yield f"{address}: {kind} {chosen.type!r} reads sequences whole, and parallel.cp {spec.parallel.cp} cuts them; set it to 1"
    if spec.seq_len % spec.parallel.cp:
        yield f"train.seq_len {spec.seq_len} cannot be cut into parallel.cp {spec.parallel.cp} equal parts; change one of them"


def _problems(spec: Spec) -> Iterator[str]:
    parallel, train = spec.parallel, spec.train
    cut = ", ".join(f"parallel.{name} {degree}" for name, degree in parallel.degrees().items() if degree > 1 and name != "dp_replicate")
    optimizer = train.optimizer
    if WHOLE in optimizer.component.offered(optimizer.params):
        yield (
            f"optimizer {optimizer.type!r} needs whole matrices, and {cut} leaves parts of them on each rank; "
            "choose another optimizer, or spread the batch alone (parallel.dp_replicate)"
        )
    if parallel.cp > 1:
        yield from _context(spec)
    if train.precision == "fp16":
        yield f"precision fp16 scales the loss by what one rank sees, and is not supported with {cut}; use bf16, which needs no scaling"
    if train.precision == "fp8":
        yield f"precision fp8 is not supported with {cut}; use bf16, or spread the batch alone (parallel.dp_replicate)"
    if train.compile:
        yield f"train.compile is not supported with {cut}; set one of them aside"
    if train.offload_optimizer:
        yield f"train.offload_optimizer is not supported with {cut}; set one of them aside"
