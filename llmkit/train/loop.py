"""The training loop: from a spec to a trained run.

Two laws. The sequences of a step are a pure function of (seed, step). The loss is a sum over the counted tokens of all ranks
and micro-batches, divided by their true number once, so that accumulation, ranks and micro-batches change nothing but rounding.
How a run goes on, and what it goes back to, is `recovery`'s.
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from operator import add
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import torch
from accelerate import Accelerator

from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import Batch
from llmkit.core.spec import Spec
from llmkit.data.batches import Batches, Items
from llmkit.data.prepare import Prepared, prepare
from llmkit.runtime import catalog as installed
from llmkit.train import precision, world
from llmkit.train.engine import Engine
from llmkit.train.feeding import Feeder, Share
from llmkit.train.lock import alone
from llmkit.train.parallel import make_engine
from llmkit.train.parallel.checks import check_model, check_ranks
from llmkit.train.progress import Reporter, Silent, printable
from llmkit.train.record import manifest_of, resolved
from llmkit.train.recovery import Diverged, Progressed, Recovery
from llmkit.train.resume import Start, check_data, start
from llmkit.train.run import RunDirectory
from llmkit.train.signals import Interrupted, StopWish
from llmkit.train.speed import Speed, memory
from llmkit.train.validate import sample, validate

Witness = Callable[[int, Sequence[Batch]], None]
"""Called on every rank after every step with its number and the micro-batches that this rank computed: who proves what a run did."""


def train(
    spec: Spec,
    *,
    out: Path,
    resume: str = "auto",
    catalog: Catalog | None = None,
    reporter: Reporter | None = None,
    witness: Witness | None = None,
) -> dict[str, Any]:
    """Train a spec into the directory `out` and return what `llmkit train --json` prints.

    Under a launcher it is called on every rank, and returns the same on each. Raises `UserError` for what the user can mend,
    `Interrupted`, a `KeyboardInterrupt`, where it was asked to stop (the checkpoint is complete), `Diverged` where the loss is no
    longer a number.
    """
    catalog = catalog or installed()
    reporter = reporter if reporter is not None and world.rank_from_environment() == 0 else Silent()
    with StopWish() as wish, _alone(out, reporter), RunDirectory(out) as directory:
        begin = check(spec, directory, resume, reporter.say, catalog)
        if begin.finished is not None:
            reporter.say(f"{out} is finished: this is what it recorded. More steps would go on; another --out starts anew")
            return begin.finished
        check_ranks(spec, world.size_from_environment())
        check_model(spec)
        # Before the process group exists, so that ranks which wait for the file lock time out nowhere.
        prepared = _prepare(spec, reporter)
        if begin.checkpoint is not None:
            check_data(begin.checkpoint, prepared)
        with _world(spec, out) as accelerator:
            world.agree(accelerator, catalog.fingerprint)
            spec = resolved(spec, accelerator.device, begin.precision)
            return Trainer(spec, directory, prepared, accelerator, catalog, reporter, witness).run(begin, wish)


def check(spec: Spec, directory: RunDirectory, resume: str, say: Callable[[str], None], catalog: Catalog | None = None) -> Start:
    """Where the run begins, after all that can be known to be wrong before any text is read. `UserError` where something is."""
    world.check_trackers(spec.train.trackers)
    precision.resolve(spec.train.precision, world.device())
    return start(spec, directory, resume, say, catalog)


class Trainer:
    """One run: everything that a step needs, made once."""

    def __init__(
        self,
        spec: Spec,
        directory: RunDirectory,
        prepared: Prepared,
        accelerator: Accelerator,
        catalog: Catalog,
        reporter: Reporter,
        witness: Witness | None = None,
    ) -> None:
        self.directory, self.prepared, self.accelerator, self.reporter = directory, prepared, accelerator, reporter
        self.witness = witness
        self.device = accelerator.device
        # Asked once: accelerate makes a state for each time.
        self.writes = accelerator.is_main_process
        self.spec = spec
        self.catalog = catalog
        self.batches = Batches(
            prepared.train,
            seq_len=spec.seq_len,
            batch_size=spec.train.batch_size,
            seed=spec.data_seed,
            mask_documents=spec.data.mask_documents,
            proportions=prepared.proportions,
        )
        self.engine = make_engine(spec, accelerator)
        self.engine.warn = reporter.say
        self.schedule = spec.train.schedule.make()
        self.speed: Speed
        self.done = Progressed()
        self.recovery = Recovery(spec, directory, self.engine, self.batches, accelerator, cut=self._micro_batches, say=reporter.say)
        self.guard = self.recovery.guard
        self.feeder = Feeder(self.batches, _share(spec, self.engine), self.device)

    def run(self, begin: Start, wish: StopWish) -> dict[str, Any]:
        """Train to the last step, evaluate, and record the result."""
        resumed = None if begin.checkpoint is None else begin.checkpoint.step
        self.done = self.recovery.restore(begin.checkpoint)
        self.engine.train_mode()
        if self.writes:
            self._record_start(begin)
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers(self.spec.name)
        self._introduce(resumed)
        began = time.perf_counter()
        first = self.done.tokens
        if resumed:
            # Whoever was stopped right after the checkpoint had not looked yet.
            self._look()
        with wish.deferred(), self.feeder, self.recovery.writer as writer:
            if self.recovery.lacks_a_way_back(begin.checkpoint):
                self.recovery.save(self.done)
            while self.done.step < self.spec.steps:
                writer.check()
                before = self.done.step
                stop = self._step(wish)
                if self.done.step <= before:
                    # It went back to a checkpoint: what was due there was done when the run came there first.
                    continue
                due = self._due(self.spec.train.checkpoint_every)
                if (due or stop or self.done.step == self.spec.steps) and self.recovery.saved != self.done.step:
                    self.recovery.save(self.done)
                if stop and self.done.step < self.spec.steps:
                    self.recovery.wait()
                    raise Interrupted(self._how_to_go_on(), 128 + stop)
                self._look()
        seconds = time.perf_counter() - began
        return self._finish(resumed, (self.done.tokens - first) / seconds if self.done.tokens > first else None)

    def _step(self, wish: StopWish) -> int:
        """One optimizer step; the signal that any rank was sent, or 0."""
        began = time.perf_counter()
        step, spec = self.done.step, self.spec
        # Dropout and whatever else draws in forward: keyed by the step, so that resuming needs no history.
        world.seed_draws(self.device, _step_seed(spec.train.seed, step, self.engine.data_rank))
        following = self.guard.batch_of(step + 1) if step + 1 < spec.steps else None
        items, read = self.feeder.take(self.guard.batch_of(step), following)
        micros = [self.engine.objective.prepare(batch, None) for batch in read]
        count = self.engine.summed(reduce(add, map(self.engine.objective.count, micros)))
        rate = self._set_learning_rate(step)
        nats, stats = self.engine.gradients(micros, count)
        clipped = self.engine.clip(spec.train.grad_clip)
        # The one time in a step that the device is waited for: what becomes of the update is decided by these.
        asked = (wish.signal == SIGINT, wish.signal == SIGTERM)
        summed, interrupts, terminations, counted, norm = self.engine.total(nats, *asked, alike=(count, clipped))
        if counted == 0:
            raise UserError(f"step {step + 1} has no token to count; every target of its sequences is ignored")
        loss = summed / counted
        decision = self.guard.look(step, loss, norm)
        if decision.action == "apply":
            self.engine.update()
            self.engine.after_step(stats)
        else:
            self.engine.discard()
        if decision.anomaly is not None and (back := self.recovery.treat(step, decision, loss, norm)) is not None:
            self.done = back
            return 0
        self.done = Progressed(step + 1, self.done.tokens + spec.train.batch_size * spec.seq_len, loss if math.isfinite(loss) else None)
        if self.witness is not None:
            self.witness(self.done.step, micros)
        seconds = time.perf_counter() - began
        self._record_step(items.tolist(), rate, norm, seconds, skipped=decision.action == "skip")
        # The wish is shared, so that all ranks save the same step.
        return SIGTERM if terminations else SIGINT if interrupts else 0

    def _micro_batches(self, items: Items) -> list[Batch]:
        return [self.engine.objective.prepare(batch, None) for batch in self.feeder.read(items)]

    def _set_learning_rate(self, step: int) -> float:
        factor = self.schedule(step, self.spec.steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.engine.optimizer.param_groups[0]["lr"])

    def _record_step(self, items: list[int], rate: float, norm: float, seconds: float, *, skipped: bool) -> None:
        if not self.writes:
            return
        row: dict[str, Any] = {
            "step": self.done.step,
            "tokens": self.done.tokens,
            "loss": self.done.loss,
            "learning_rate": rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "seconds": seconds,
            **self.speed.figures(self.spec.train.batch_size * self.spec.seq_len, seconds),
            **memory(self.device),
        }
        marks = {"skipped": True} if skipped else {}
        ledger = {"step": self.done.step, "items": items, "loss": row["loss"], "grad_norm": row["grad_norm"]}
        self.directory.append("ledger", ledger | marks)
        self.directory.append("metrics", row | marks)
        if self.spec.train.trackers:
            self.accelerator.log({key: value for key, value in row.items() if key != "step" and value is not None}, step=self.done.step)
        self.reporter.step(row, self.spec.steps)

    def _look(self) -> None:
        """Evaluate and sample on the way, where it is due; the end does both itself."""
        if self.done.step == self.spec.steps:
            return
        if self._due(self.spec.train.eval_every):
            self._evaluate(self.spec.train.eval_sequences)
        if self._due(self.spec.train.sample_every):
            self._sample()

    def _due(self, every: int | None) -> bool:
        return every is not None and self.done.step % every == 0

    def _evaluate(self, limit: int | None) -> dict[str, float]:
        with self.engine.evaluating():
            found = validate(self.spec, self.engine, self.prepared, limit)
        if not math.isfinite(found["val_loss"]):
            if self.guard.spec.policy == "rollback" and self.done.step < self.spec.steps:
                # The next step shows the same, and the run goes back from it.
                return found
            raise Diverged(
                f"after step {self.done.step} the validation loss is {found['val_loss']}; lower train.optimizer.lr, or lengthen the warm-up"
            )
        if self.writes:
            self.recovery.losses[self.done.step] = found["val_loss"]
            self.directory.append_once("metrics", {"step": self.done.step, "tokens": self.done.tokens, **found}, by=["step"])
            self.accelerator.log(found, step=self.done.step)
            self.reporter.say(
                f"step {self.done.step}: validation loss {found['val_loss']:.4f}, {found['val_bits_per_byte']:.4f} bits per byte"
            )
        return found

    def _sample(self) -> None:
        with self.engine.evaluating(), self.engine.whole_model() as model:
            texts = [] if model is None else sample(self.spec, model, self.prepared.tokenizer)
        if model is None:
            return
        for prompt, text in zip(self.spec.train.sample_prompts, texts, strict=True):
            self.directory.append_once("samples", {"step": self.done.step, "prompt": prompt, "text": text}, by=["step", "prompt"])
            self.reporter.say(f"step {self.done.step}: {prompt}»{printable(text)}«")

    def _record_start(self, begin: Start) -> None:
        # Here, where the others wait: a peak that is measured beside their work is none.
        self.speed = Speed.of(self.spec, self.device, self.accelerator.num_processes)
        record = manifest_of(self.spec, self.catalog, self.prepared)
        session = {
            "from_step": self.done.step,
            "processes": self.accelerator.num_processes,
            "llmkit": record.get("llmkit"),
            "changes": [{"address": address, "was": was, "now": now} for address, was, now in begin.changes],
        }
        earlier = self.directory.load_manifest().get("sessions", [])
        self.directory.begin(self.spec, record | {"sessions": [*earlier, session]}, self.prepared.tokenizer_directory)
        self.recovery.forget_after(self.done.step)

    def _introduce(self, resumed: int | None) -> None:
        size = self.engine.size
        spec, ranks = self.spec, self.accelerator.num_processes
        self.reporter.say(
            f"{spec.name}: {size:,} parameters, {spec.steps:,} steps of {spec.train.batch_size} x {spec.seq_len} tokens, "
            f"{spec.train.precision} on {ranks} x {self.device.type}" + ("" if resumed is None else f"; going on from step {resumed}")
        )
        if world.smaller_than_asked(ranks):
            self.reporter.say(
                f"warning: the launcher was asked for more processes than it started ({ranks}); "
                "use `llmkit train --processes N` or torchrun"
            )

    def _finish(self, resumed: int | None, speed: float | None) -> dict[str, Any]:
        found = self._evaluate(None)
        if self.spec.train.sample_every is not None:
            self._sample()
        result = self.done.result(self.directory, found, self.guard, speed, resumed=resumed)
        if self.writes:
            self.directory.record_result(result)
        self.accelerator.wait_for_everyone()
        return result

    def _how_to_go_on(self) -> str:
        return f"stopped at step {self.done.step} of {self.spec.steps} with a complete checkpoint; the same command goes on from there"


def _alone(out: Path, reporter: Reporter) -> AbstractContextManager[None]:
    """The first rank has the run for all. Where another process has it, this rank ends, and with it, by their launcher, the others."""
    return alone(out, reporter.say) if world.rank_from_environment() == 0 else nullcontext()


@contextmanager
def _world(spec: Spec, out: Path) -> Iterator[Accelerator]:
    accelerator = world.begin(spec.train.trackers, str(out))
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _prepare(spec: Spec, reporter: Reporter) -> Prepared:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        prepared = prepare(spec, progress=reporter.preparing)
    for warning in caught:
        reporter.say(f"warning: {warning.message}")
    return prepared


def _share(spec: Spec, engine: Engine) -> Share:
    batch_size, ranks = spec.train.batch_size, engine.data_ranks
    if batch_size % ranks:
        raise UserError(f"train.batch_size {batch_size} cannot be shared evenly by {ranks} processes; change one of them")
    size = batch_size // ranks
    return Share(engine.data_rank, size, min(spec.train.micro_batch_size or size, size))


def _step_seed(seed: int, step: int, rank: int) -> int:
    key = hashlib.sha256(f"forward:{seed}:{step}:{rank}".encode()).digest()
    return int.from_bytes(key[:8], "little", signed=True)
