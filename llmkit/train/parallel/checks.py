"""What cannot be combined with `parallel`, told before any rank waits for another."""

from __future__ import annotations

from collections.abc import Iterator

from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec

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
    check(spec)


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
    if train.compile:
        yield f"train.compile is not supported with {cut}; set one of them aside"
    if train.offload_optimizer:
        yield f"train.offload_optimizer is not supported with {cut}; set one of them aside"
