"""Where a spike comes from: bad data or bad state, and which documents.

After a rollback the suspect batches are computed once more, with the weights of the clean checkpoint and without an update, and judged
by what was usual when it was written. One that was trained on and is out of line there as well is *bad data*: those weights had seen
nothing of the spike. Where none is, it was *bad state*: a corrupted weight, an optimizer that blew up, or a batch that only hurt with
the weights of that moment (PaLM saw the same batches pass from another checkpoint). It is *unknown* where the checkpoint is so early
that nothing was usual yet. A replay costs a step without an update for each suspect batch.

Of the batches out of line, each sequence's own loss is taken, and those that stand out are named with their documents. Without a
rollback, so are those of the spike's own batch, with the weights as they are. A report is a row of spikes.jsonl, one a spike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from llmkit.core.interfaces.objective import Batch
from llmkit.data.batches import Batches, Items
from llmkit.train.engine import Engine
from llmkit.train.guard import Anomaly, Decision, Guard, WentBack

LOOKED_INTO = 4
"""The sequences of at most so many batches, the worst, are looked at one by one."""

WRITTEN = 16
"""So many sequences at most are written down."""

SPOKEN = 5
"""So many documents at most are named to the person who watches."""

Verdict = Literal["bad data", "bad state", "unknown"]
Report = dict[str, Any]

MEANING: dict[Verdict, str] = {
    "bad data": "bad data: older weights, which had seen nothing of the spike, find the same batches out of line",
    "bad state": "bad state: older weights find nothing out of line in these batches; the weights or the optimizer had gone wrong",
    "unknown": "data or state, that cannot be told: where the run went back to, too few steps were seen to know what is usual",
}


class Suspect(NamedTuple):
    """A batch, computed with the clean weights. `trained`: the run had trained on it when the spike was found."""

    batch: int
    loss: float
    norm: float
    trained: bool
    anomaly: Anomaly | None


class Doctor:
    """Reports on what the guard found. Every rank calls it alike, and has the same report.

    cut     the sequences of a global batch -> this rank's micro-batches
    record  takes a report, where this rank is the one that writes
    say     takes a line for a person
    """

    def __init__(
        self,
        guard: Guard,
        engine: Engine,
        batches: Batches,
        *,
        cut: Callable[[Items], list[Batch]],
        record: Callable[[Report], None],
        say: Callable[[str], None],
    ) -> None:
        self.guard, self.engine, self.batches = guard, engine, batches
        self.cut, self.record, self.say = cut, record, say

    def report(self, step: int, decision: Decision, loss: float, norm: float, back: WentBack | None = None) -> None:
        """Say and write down what was found in `step`, and what it comes from.

        back  where the run went back: the guard and the weights are those of the clean checkpoint by now
        """
        if self.guard.spec.policy == "off" or decision.anomaly is None:
            return
        spike = self.guard.batch_of(step) if back is None else back.spike
        cause = self._seen(spike) if back is None else self._replayed(decision, back)
        found = {**self._row(step, spike, decision, loss, norm), **cause}
        self.record(found)
        if self.guard.in_a_row <= 1:
            self.say(story(found, decision.anomaly))

    def _seen(self, batch: int) -> Report:
        """Of several spikes in a row, only the first is looked into."""
        return {"sequences": self._stand_out([batch]) if self.guard.in_a_row <= 1 else []}

    def _replayed(self, decision: Decision, back: WentBack) -> Report:
        suspects = [self._compute(batch, trained=batch <= back.spike) for batch in back.suspects]
        bad = sorted((one for one in suspects if one.anomaly is not None), key=_badness, reverse=True)
        return {
            "to_step": back.checkpoint,
            "left_out": [back.first, back.end],
            "verdict": self._verdict(decision, suspects),
            "suspects": [
                {"batch": one.batch, "loss": _number(one.loss), "grad_norm": _number(one.norm), "anomalous": one.anomaly is not None}
                for one in suspects
            ],
            "sequences": self._stand_out([one.batch for one in bad[:LOOKED_INTO]]),
        }

    def _compute(self, batch: int, *, trained: bool) -> Suspect:
        micros = self.cut(self.batches.items(batch))
        (count,) = self.engine.total(sum(self.engine.objective.count(one) for one in micros))
        nats, _ = self.engine.gradients(micros, count)
        norm = float(self.engine.clip(None))
        (loss,) = self.engine.total(nats / count)
        self.engine.discard()
        return Suspect(batch, loss, norm, trained, self.guard.judge(loss, norm))

    def _losses(self, items: Items) -> list[float]:
        """The loss of each sequence, whichever rank computes it."""
        share = len(items) // self.engine.data_ranks
        nats, counts = [0.0] * len(items), [0.0] * len(items)
        for at in range(self.engine.data_rank * share, (self.engine.data_rank + 1) * share):
            found, counts[at] = self.engine.nats([self.batches.batch(items[at : at + 1])])
            nats[at] = float(found)
        summed = self.engine.total(*nats, *counts)
        return [nat / count for nat, count in zip(summed[: len(items)], summed[len(items) :], strict=True)]

    def _verdict(self, decision: Decision, suspects: Sequence[Suspect]) -> Verdict:
        if any(one.trained and one.anomaly is not None for one in suspects):
            return "bad data"
        # That older weights make a number of what was none needs no yardstick.
        was_number = decision.anomaly is not None and math.isfinite(decision.anomaly.value)
        return "unknown" if was_number and not self.guard.ready() else "bad state"

    def _row(self, step: int, batch: int, decision: Decision, loss: float, norm: float) -> Report:
        anomaly = decision.anomaly
        return {
            "step": step + 1,
            "loss": _number(loss),
            "grad_norm": _number(norm),
            "measure": anomaly and anomaly.measure,
            "usual": anomaly and anomaly.usual,
            "limit": anomaly and anomaly.limit,
            "action": decision.action,
            "batch": batch,
            "items": self.batches.items(batch).tolist(),
        }

    def _stand_out(self, batches: Sequence[int]) -> list[Report]:
        """The sequences of these batches that stand out, the worst first, with the parts of documents that they are made of."""
        found = []
        for batch in batches:
            items = self.batches.items(batch)
            losses = self._losses(items)
            # What is above the batch's own mean stands out in any case: a batch out of line has a sequence that is.
            limit = min(self.guard.sequence_limit(len(items)), math.fsum(losses) / len(losses))
            found += [(batch, item, loss) for item, loss in zip(items.tolist(), losses, strict=True) if not loss < limit]
        worst = sorted(found, key=lambda one: -_finite_or_worst(one[2]))[:WRITTEN]
        return [{"batch": batch, "item": item, "loss": _number(loss), "documents": self._documents(item)} for batch, item, loss in worst]

    def _documents(self, item: int) -> list[Report]:
        # One token of a document is the end-of-text of the one before, or the first of the one after, which is only predicted.
        passages = self.batches.locate(item)
        return [passage._asdict() for passage in passages if passage.end - passage.start > 1 or len(passages) == 1]


def story(report: Report, anomaly: Anomaly) -> str:
    """A report, for a person."""
    lines = [f"spike at step {report['step']}: {anomaly}; {_done(report)}"]
    if "verdict" in report:
        lines.append(f"  {MEANING[report['verdict']]}")
    lines += [f"  {line}" for line in _named(report)]
    return "\n".join(lines)


def _done(report: Report) -> str:
    if report["action"] == "skip":
        return "its update is not applied"
    if report["action"] == "diverge":
        return "the run ends"
    if report["action"] == "apply":
        return "told, and no more (train.spikes.policy warn)"
    first, end = report["left_out"]
    return f"back to step {report['to_step']}, and {end - first} batches around it are left out"


def _named(report: Report) -> list[str]:
    """The documents that stand out, each once."""
    lines: dict[str, None] = {}
    for one in report["sequences"]:
        loss = "no number" if one["loss"] is None else f"{one['loss']:.4g}"
        names = ", ".join(part["document"] for part in one["documents"])
        lines[f"loss {loss} in {names}"] = None
    told = list(lines)
    return told[:SPOKEN] + ([f"and {len(told) - SPOKEN} more; spikes.jsonl has them"] if len(told) > SPOKEN else [])


def _badness(one: Suspect) -> float:
    """How far a suspect is out of line, for comparison with others."""
    return _finite_or_worst(one.loss) if math.isfinite(one.norm) else math.inf


def _finite_or_worst(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _number(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
