"""What a run can go on from: its checkpoints, written as it goes, taken up by a later process, and gone back to after a spike.

Two laws. Nothing but the checkpoint decides how a run goes on. Whatever happens, the last complete checkpoint stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from llmkit.core.interfaces.objective import Batch
from llmkit.core.spec import Spec
from llmkit.data.batches import Batches, Items
from llmkit.train import checkpoint as checkpoints
from llmkit.train import world
from llmkit.train.checkpoint import Checkpoint
from llmkit.train.diagnosis import Doctor
from llmkit.train.engine import Engine
from llmkit.train.guard import Decision, Guard
from llmkit.train.keep import KeepRule
from llmkit.train.run import RunDirectory
from llmkit.train.writer import CheckpointWriter


class Diverged(Exception):
    """The loss or the gradient is no longer a number."""


@dataclass
class Progressed:
    """How far the run has come: optimizer steps, tokens trained on, and the last step's mean loss."""

    step: int = 0
    tokens: int = 0
    loss: float | None = None

    def result(self, run: RunDirectory, found: Mapping[str, Any], guard: Guard, speed: float | None, resumed: int | None) -> dict[str, Any]:
        """What `llmkit train --json` prints of a run that is at its end. `found`: its last evaluation; `speed`: tokens a second."""
        return {
            "run": str(run.root),
            "step": self.step,
            "tokens": self.tokens,
            "train_loss": self.loss,
            **found,
            "spikes": {"found": guard.found, "skipped": guard.skipped, "rollbacks": guard.rollbacks},
            "tokens_per_second": speed,
            "resumed_from": resumed,
        }


class Recovery:
    """Saves a run, takes it up again, and goes back in it. Every rank calls it alike; the first one writes.

    guard   judges every step, and knows which batches are left out
    writer  is entered around the steps
    losses  validation losses by step, of those that have a checkpoint: the rule for keeping them asks for that
    saved   the step of the last checkpoint; None where the run has none
    """

    def __init__(
        self,
        spec: Spec,
        directory: RunDirectory,
        engine: Engine,
        batches: Batches,
        accelerator: Accelerator,
        *,
        cut: Callable[[Items], list[Batch]],
        say: Callable[[str], None],
    ) -> None:
        """cut  the sequences of a global batch -> this rank's micro-batches"""
        self.spec, self.directory, self.engine, self.accelerator = spec, directory, engine, accelerator
        self.guard = Guard(spec.train.spikes, scaled=engine.scaler.is_enabled())
        self.doctor = Doctor(self.guard, engine, batches, cut=cut, record=self._record_spike, say=say)
        self.writer = CheckpointWriter(directory.checkpoints, KeepRule.of(spec.train), directory.row_files)
        self.losses: dict[int, float] = {}
        self.saved: int | None = None

    def save(self, done: Progressed) -> None:
        """The first rank writes what all ranks have, beside the steps that follow."""
        trainer: dict[str, Any] = {"tokens": done.tokens, "loss": done.loss, "seed": self.spec.train.seed}
        trainer["spikes"] = self.guard.state_dict()
        if self.engine.scaler.is_enabled():
            trainer["scaler"] = self.engine.scaler.state_dict()
        with self.engine.evaluating():
            weights, optimizer, parameters = self.engine.recorded()
            if self.accelerator.is_main_process:
                state = checkpoints.state_of(done.step, weights, optimizer=optimizer, parameters=parameters, trainer=trainer)
                self.writer.save(state, self.losses)
        self.saved = done.step

    def wait(self) -> None:
        """Until the last checkpoint is complete; no rank leaves before."""
        self.writer.wait()
        self.accelerator.wait_for_everyone()

    def restore(self, found: Checkpoint | None) -> Progressed:
        """Go on as the process that wrote this checkpoint would have; from the beginning where there is none."""
        if found is None:
            return Progressed()
        done = self._load(found)
        self.guard.load_state_dict(found.trainer().get("spikes", {}))
        return done

    def forget_after(self, step: int) -> None:
        """Forget what was told and saved of later steps: they come again. The first rank alone calls it."""
        self.directory.cut(step, self.guard.found)
        told = (row for one in checkpoints.listed(self.directory.checkpoints) for row in self.directory.rows_of("metrics", one.step))
        self.losses = {row["step"]: row["val_loss"] for row in told if "val_loss" in row}
        self.writer.tidy(self.losses)

    def lacks_a_way_back(self, begun: Checkpoint | None) -> bool:
        """Whether the run may go back, and has no checkpoint of its own for that yet."""
        if self.spec.train.spikes.policy != "rollback":
            return False
        return begun is None or not begun.has_optimizer() or begun.directory.parent.resolve() != self.directory.checkpoints.resolve()

    def treat(self, step: int, decision: Decision, loss: float, norm: float) -> Progressed | None:
        """Report a spike and do what was decided: where the run stands now, if it went back. `Diverged` where that was decided."""
        if decision.action == "rollback":
            return self._go_back(step, decision, loss, norm)
        self.doctor.report(step, decision, loss, norm)
        if decision.action == "diverge":
            often = f", after {self.guard.here - 1} rollbacks" if self.guard.spec.policy == "rollback" else ""
            raise Diverged(
                f"at step {step + 1} the loss is {loss} and the gradient norm {norm}{often}; the run's last checkpoint is as it was. "
                "lower train.optimizer.lr, lengthen the warm-up, or look at that step in ledger.jsonl"
            )
        return None

    def _go_back(self, step: int, decision: Decision, loss: float, norm: float) -> Progressed:
        """To the last clean checkpoint, within this process."""
        found = self._clean_checkpoint(step)
        back = self.guard.go_back(step, found.step, found.trainer().get("spikes", {}))
        done = self._load(found)
        self.engine.train_mode()
        if self.accelerator.is_main_process:
            self.forget_after(done.step)
        self.accelerator.wait_for_everyone()
        self.doctor.report(step, decision, loss, norm, back)
        return done

    def _clean_checkpoint(self, step: int) -> Checkpoint:
        """Where to go back to from a spike in this step; the first rank chooses among what is whole."""
        self.wait()
        known = {one.step: one for one in checkpoints.listed(self.directory.checkpoints)}
        chosen = self.guard.clean(step, list(known))
        while self.accelerator.is_main_process and chosen is not None and known[chosen].damage() is not None:
            del known[chosen]
            chosen = self.guard.clean(step, list(known))
        mine = -1 if chosen is None else chosen
        (shared,) = world.total(self.accelerator, mine if self.accelerator.is_main_process else 0)
        found = known.get(int(shared))
        if found is None:
            raise Diverged(f"there is a spike at step {step + 1}, and no checkpoint to go back to; begin anew with another --out")
        return found

    def _load(self, found: Checkpoint) -> Progressed:
        self.engine.load(found)
        trainer = found.trainer()
        self.saved = found.step
        return Progressed(found.step, trainer["tokens"], trainer.get("loss"))

    def _record_spike(self, report: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.directory.append("spikes", report)
