"""Runs that are trained together: one stacked model, and for each seed the run's directory that training it alone would have left.

Equal to separate runs but for rounding: initial values, order of the data, learning rate, gradient norm and its limit, spike detector
and evaluation are each seed's own. A seed that diverges ends there and is told; its place in the stack is computed on and not looked at.

What is killed or asked to stop on the way counts for nothing: such runs are short, and `train_together` begins them anew. Only the end
leaves a checkpoint, whatever `train.checkpoint_every` says; from there each goes on alone, as any run does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.filled import differences
from llmkit.core.interfaces.objective import Batch
from llmkit.core.spec import Spec
from llmkit.data.batches import windows
from llmkit.data.prepare import Prepared, prepare
from llmkit.runtime import catalog as installed
from llmkit.train import world
from llmkit.train.allocator import keep_freed_memory
from llmkit.train.feeding import Share
from llmkit.train.lock import alone
from llmkit.train.progress import Reporter, Silent
from llmkit.train.record import manifest_of, resolved
from llmkit.train.resume import start
from llmkit.train.run import RunDirectory
from llmkit.train.signals import Interrupted, StopWish
from llmkit.train.speed import Speed
from llmkit.train.stacked.engine import StackedEngine
from llmkit.train.stacked.lane import Lane
from llmkit.train.stacked.reasons import can_stack

TOGETHER = 8
"""Seeds that are best stacked at once, on a processor: of fewer, each pays more for a step; of more, the activations leave the cache."""

WINDOWS = 8
"""Validation sequences that each model of a stack computes at once."""

OWN = ("name", "train.seed", "train.init_seed", "train.data_seed")
"""What may differ between specs that are trained together."""


def train_together(
    specs: Sequence[Spec],
    outs: Sequence[Path],
    *,
    catalog: Catalog | None = None,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """Train specs that are equal but for their seeds into a directory each; of each what `train` returns, in their order.

    A run that is finished already is not run again. One that diverges has `diverged`, the reason, in what is returned, no value that
    it did not come to, and no result.json, as with `train`. The stack is as wide as there are runs to do; `TOGETHER` is a good number.

    Raises `Interrupted` where it was asked to stop, and `UserError` where the specs differ in more than their seeds, where `can_stack`
    names a reason, and for what `train` refuses.
    """
    reporter, catalog = reporter or Silent(), catalog or installed()
    _check(specs, outs)
    with StopWish() as wish, ExitStack() as held:
        directories = []
        for out in outs:
            held.enter_context(alone(out, reporter.say))
            directories.append(held.enter_context(RunDirectory(out)))
        begins = [start(spec, directory, "auto", reporter.say, catalog) for spec, directory in zip(specs, directories, strict=True)]
        results = {index: begin.finished for index, begin in enumerate(begins) if begin.finished is not None}
        todo = [index for index in range(len(specs)) if index not in results]
        if todo:
            chosen, places = [specs[index] for index in todo], [directories[index] for index in todo]
            results |= zip(todo, Together(chosen, places, catalog, reporter).run(wish), strict=True)
    return [results[index] for index in range(len(specs))]


class Together:
    """Runs in one stack: everything that a step needs, made once."""

    def __init__(self, specs: Sequence[Spec], directories: Sequence[RunDirectory], catalog: Catalog, reporter: Reporter) -> None:
        self.device = world.device()
        if self.device.type == "cpu":
            keep_freed_memory()
        specs = [resolved(spec, self.device) for spec in specs]
        self.spec, self.reporter = specs[0], reporter
        self.prepared: Prepared = prepare(self.spec, progress=reporter.preparing)
        self.engine = StackedEngine(specs, self.device)
        self.schedule = self.spec.train.schedule.make()
        self.lanes = [
            Lane(spec, directory, self.prepared, self.engine.stack, index, reporter.say)
            for index, (spec, directory) in enumerate(zip(specs, directories, strict=True))
        ]
        size = self.spec.train.batch_size
        self.share = Share(0, size, min(self.spec.train.micro_batch_size or size, size))
        self.speed = Speed.of(self.spec, self.device, 1)
        record = manifest_of(self.spec, catalog, self.prepared)
        for lane in self.lanes:
            lane.begin(record, together=len(self.lanes))
        self.step = 0

    def run(self, wish: StopWish) -> list[dict[str, Any]]:
        """Train to the last step, evaluate, and record the results."""
        began = time.perf_counter()
        with wish.deferred():
            while self.step < self.spec.steps and any(lane.goes_on for lane in self.lanes):
                if wish.signal:
                    raise Interrupted(f"stopped at step {self.step} of {self.spec.steps}; the same call begins anew", 128 + wish.signal)
                self._take_a_step()
                if self.step < self.spec.steps and self._due(self.spec.train.eval_every):
                    self._evaluate(self.spec.train.eval_sequences)
        seconds = time.perf_counter() - began
        with ExitStack() as writing:
            for lane in self.lanes:
                writing.enter_context(lane.writer)
            self._save()
            # Beside the writing of the checkpoints.
            self._evaluate(None)
        tokens = self.step * self.spec.train.batch_size * self.spec.seq_len * len(self.lanes)
        return [lane.finish(tokens / seconds / len(self.lanes)) for lane in self.lanes]

    def _take_a_step(self) -> None:
        began = time.perf_counter()
        items = [lane.batches.items(self.step) for lane in self.lanes]
        cut = [self.share.cut(one) for one in items]
        micros = [[lane.batches.batch(part) for lane, part in zip(self.lanes, parts, strict=True)] for parts in zip(*cut, strict=True)]
        counts = torch.stack([torch.stack([self.engine.stack.root.objective.count(batch) for batch in some]) for some in micros]).sum(dim=0)
        rate = self._set_learning_rate()
        reported = self.engine.gradients([_together(some, self.device) for some in micros], counts.to(self.device))
        norms = self.engine.clip(self.spec.train.grad_clip).tolist()
        losses = (reported.cpu() / counts).tolist()
        # An update of a seed that ends here is made with the others', and nobody looks at it.
        self.engine.update()
        self.step += 1
        # A step's time is shared: so many tokens a second as the machine trained of each.
        seconds = (time.perf_counter() - began) / len(self.lanes)
        figures = self.speed.figures(self.spec.train.batch_size * self.spec.seq_len, seconds)
        for lane, mine, loss, norm in zip(self.lanes, items, losses, norms, strict=True):
            lane.stepped(mine, loss, norm, {"learning_rate": rate, "seconds": seconds, **figures})
        self.reporter.step(self.lanes[0].row, self.spec.steps)

    def _set_learning_rate(self) -> float:
        factor = self.schedule(self.step, self.spec.steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.engine.optimizer.param_groups[0]["lr"])

    def _save(self) -> None:
        states = self.engine.states(self.step, [lane.trainer_state() for lane in self.lanes])
        for lane, state in zip(self.lanes, states, strict=True):
            if lane.goes_on:
                lane.writer.save(state, lane.losses)

    def _evaluate(self, limit: int | None) -> None:
        """Every model over the validation stream, in one pass."""
        tokens = self.prepared.validation
        batches = windows(tokens, self.spec.seq_len, batch_size=WINDOWS, mask_documents=self.spec.data.mask_documents, limit=limit)
        with self.engine.evaluating():
            nats, counted = self.engine.stack.nats(batches)
        tokens_a_byte = (tokens.n_tokens - 1) / tokens.n_bytes
        for lane, loss in zip(self.lanes, (nats / counted).tolist(), strict=True):
            lane.evaluated({"val_loss": loss, "val_bits_per_byte": loss * tokens_a_byte / math.log(2)})

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0


def _check(specs: Sequence[Spec], outs: Sequence[Path]) -> None:
    if len(specs) != len(outs) or len({out.resolve() for out in outs}) != len(outs):
        raise UserError(f"{len(specs)} runs need as many directories, each its own; there are {len(set(outs))} of {len(outs)}")
    for other in specs[1:]:
        for address, ours, theirs in differences(specs[0], other):
            if address not in OWN:
                raise UserError(
                    f"runs that are trained together differ in their seeds alone; {address} is {ours!r} in one and {theirs!r} in another"
                )
    if specs and (reason := can_stack(specs[0])) is not None:
        raise UserError(f"{specs[0].name!r} cannot be trained with others as one stacked model: {reason}; train its runs one by one")


def _together(batches: Sequence[Batch], device: torch.device) -> Batch:
    """The batches of all models as one, (S, B, T)."""

    def stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return torch.stack(known) if known else None

    return Batch(*map(stacked, zip(*(batch[:6] for batch in batches), strict=True))).to(device)  # type: ignore[arg-type]
