"""One run of a stack: what it reads, how its steps are judged, and what it writes down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

from torch import Tensor

from llmkit.core.interfaces.objective import Batch
from llmkit.core.spec import Spec
from llmkit.data.batches import Batches, Items
from llmkit.data.prepare import Prepared
from llmkit.train.diagnosis import Doctor
from llmkit.train.engine import Engine
from llmkit.train.guard import Guard
from llmkit.train.keep import KeepRule
from llmkit.train.recovery import Progressed
from llmkit.train.run import SPIKES, RunDirectory
from llmkit.train.stacked.model import Stack
from llmkit.train.writer import CheckpointWriter


class Lane:
    """A run among others, in the place `index` of their stack.

    goes_on  whether it is still looked at: it has not diverged
    row      what was told of its last step
    """

    def __init__(
        self, spec: Spec, directory: RunDirectory, prepared: Prepared, stack: Stack, index: int, say: Callable[[str], None]
    ) -> None:
        self.spec, self.directory, self.prepared, self.say = spec, directory, prepared, say
        self.batches = Batches(
            prepared.train,
            seq_len=spec.seq_len,
            batch_size=spec.train.batch_size,
            seed=spec.data_seed,
            mask_documents=spec.data.mask_documents,
            proportions=prepared.proportions,
        )
        self.guard = Guard(spec.train.spikes)
        # A doctor asks no more of an engine where a run never goes back.
        engine = cast(Engine, _OneOf(stack, index))
        self.doctor = Doctor(self.guard, engine, self.batches, cut=lambda items: [], record=self._record_spike, say=say)
        self.writer = CheckpointWriter(directory.checkpoints, KeepRule.of(spec.train), directory.row_files)
        self.losses: dict[int, float] = {}
        self.done = Progressed()
        self.row: dict[str, Any] = {}
        self.found: dict[str, float | None] = {"val_loss": None, "val_bits_per_byte": None}
        self.diverged: str | None = None

    @property
    def goes_on(self) -> bool:
        return self.diverged is None

    def begin(self, record: dict[str, Any], *, together: int) -> None:
        """Write what a run has before its first step, and forget what an earlier process told of it."""
        session: dict[str, Any] = {"from_step": 0, "processes": 1, "together": together, "llmkit": record.get("llmkit"), "changes": []}
        earlier = self.directory.load_manifest().get("sessions", [])
        self.directory.begin(self.spec, record | {"sessions": [*earlier, session]}, self.prepared.tokenizer_directory)
        self.directory.cut(0)

    def stepped(self, items: Items, loss: float, norm: float, figures: dict[str, float]) -> None:
        """A step was taken: judge it and tell of it."""
        if not self.goes_on:
            return
        decision = self.guard.look(self.done.step, loss, norm)
        if decision.anomaly is not None:
            self.doctor.report(self.done.step, decision, loss, norm)
        if decision.action == "diverge":
            self._end(f"at step {self.done.step + 1} the loss is {loss} and the gradient norm {norm}")
            return
        tokens = self.done.tokens + self.spec.train.batch_size * self.spec.seq_len
        self.done = Progressed(self.done.step + 1, tokens, loss if math.isfinite(loss) else None)
        told = {"loss": self.done.loss, "grad_norm": norm if math.isfinite(norm) else None}
        self.row = {"step": self.done.step, "tokens": tokens, **told, **figures}
        self.directory.append("ledger", {"step": self.done.step, "items": items.tolist(), **told})
        self.directory.append("metrics", self.row)

    def evaluated(self, found: dict[str, float]) -> None:
        """The validation text was looked at."""
        if not self.goes_on:
            return
        if not math.isfinite(found["val_loss"]):
            self._end(f"after step {self.done.step} the validation loss is {found['val_loss']}")
            return
        self.found = {**found}
        self.losses[self.done.step] = found["val_loss"]
        self.directory.append("metrics", {"step": self.done.step, "tokens": self.done.tokens, **found})

    def trainer_state(self) -> dict[str, object]:
        """What a checkpoint keeps of the loop."""
        return {"tokens": self.done.tokens, "loss": self.done.loss, "seed": self.spec.train.seed, "spikes": self.guard.state_dict()}

    def finish(self, speed: float) -> dict[str, Any]:
        """The run's result, which is recorded where it came to its end."""
        result = self.done.result(self.directory, self.found, self.guard, speed, resumed=None)
        if self.diverged is not None:
            return result | {"diverged": self.diverged}
        self.directory.record_result(result)
        return result

    def _end(self, reason: str) -> None:
        self.diverged = f"{reason}; lower train.optimizer.lr, or lengthen the warm-up"
        self.found = dict.fromkeys(self.found)
        self.say(f"{self.directory.root}: diverged: {self.diverged}")

    def _record_spike(self, report: dict[str, Any]) -> None:
        self.directory.append(SPIKES, report)


class _OneOf:
    """One model of a stack, as far as a doctor asks it: the loss of a batch."""

    data_rank, data_ranks = 0, 1

    def __init__(self, stack: Stack, index: int) -> None:
        self._stack, self._index = stack, index

    def nats(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        nats, counted = self._stack.nats(batches)
        return nats[self._index], counted

    def total(self, *values: float | Tensor) -> list[float]:
        return [float(value) for value in values]
