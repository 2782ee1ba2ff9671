"""What was proved about a spec: which runs were made, what of them was compared, and whether it is the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.manifest import manifest
from llmkit.core.spec import Spec
from llmkit.data.durable import write_whole
from llmkit.runtime import catalog as installed
from llmkit.train import world
from llmkit.train.record import resolved
from llmkit.train.verification import runs
from llmkit.train.verification.comparison import ANY_NUMBER, Compared, Tolerance, compare, tensor_digests
from llmkit.train.verification.runs import Made, Say, Session, killed_at_every, processes

CERTIFICATE = "certificate.json"

ROUNDING = {"fp32": Tolerance(1e-4, 1e-3, 1e-2), "bf16": Tolerance(1e-2, 1e-1, ANY_NUMBER)}
"""What the order in which ranks add up their gradients may change, over a hundred steps or so: up to ten times what micro-batches of
half the size change on one process, which is rounding and nothing else (docs/exactness.md). In bf16 that says nothing of single
gradients, and losses and weights alone are held to something. Other precisions round as bf16 does."""

Progress = Callable[[str, int, int], None]
"""Called as (which run, step, steps)."""


@dataclass(frozen=True)
class Case:
    """Two runs that are to be equal: one left alone, one killed and resumed."""

    straight: Made
    resumed: Made
    compared: Sequence[Compared]

    @property
    def title(self) -> str:
        """Which runs they are."""
        alone, after = self.straight.ranks[0], self.resumed.ranks
        if alone == after[-1]:
            return f"killed and resumed on {processes(alone)}"
        return f"straight on {processes(alone)}, killed there and resumed on {processes(after[-1])}"

    @property
    def verdict(self) -> str:
        """`identical`, `within tolerance`, or `different`."""
        if all(one.equal for one in self.compared):
            return "identical"
        return "within tolerance" if all(one.holds for one in self.compared) else "different"


@dataclass(frozen=True)
class Certificate:
    """All cases of a verification, and the versions and hardware that they are true of."""

    spec: Spec
    every: int
    cases: Sequence[Case]
    record: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether no case is different."""
        return all(case.verdict != "different" for case in self.cases)

    def document(self) -> dict[str, Any]:
        """As `certificate.json` and `--json` hold it."""
        return {
            "name": self.spec.name,
            "verdict": "different" if not self.holds else max((case.verdict for case in self.cases), key=len),
            "steps": self.spec.steps,
            "killed_every": self.every,
            "checkpoint_every": self.spec.train.checkpoint_every,
            "batch_size": self.spec.train.batch_size,
            "micro_batch_size": self.spec.train.micro_batch_size,
            "precision": self.spec.train.precision,
            "parallel": self.spec.parallel.degrees(),
            "cases": [_case(case) for case in self.cases],
            **self.record,
        }


def verify(
    spec: Spec, out: Path, *, every: int, processes: int = 1, say: Say, progress: Progress, catalog: Catalog | None = None
) -> Certificate:
    """Train a spec straight, and killed after every `every`-th step and resumed; compare; write `out/certificate.json`.

    With more than one process also from a run that began on one, which has the whole model whatever `parallel` says. The runs stay in
    `out`, so that whoever doubts can look. `UserError` where `out` holds something, where the spec is too short to be killed, and for
    whatever training refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{str(out)!r} is not empty; choose another directory with --out")
    if every >= spec.steps:
        raise UserError(f"a run of {spec.steps} steps is over before it is killed after step {every}; give a smaller --every or more steps")
    out.mkdir(parents=True, exist_ok=True)
    runs.write_spec(spec, out / "spec.yaml")
    spec = resolved(spec, world.device())
    maker = _Maker(out, spec.steps, say, progress)
    alone = maker.make(f"straight-{processes}", [Session(processes)])
    killed = maker.make(f"resumed-{processes}", killed_at_every(every, spec.steps, processes))
    cases = [Case(alone, killed, compare(alone.recorded, killed.recorded))]
    if processes > 1:
        alone = maker.make("straight-1", [Session(1)])
        killed = maker.make(f"resumed-1-to-{processes}", killed_at_every(every, spec.steps, processes, first_ranks=1))
        cases.append(Case(alone, killed, compare(alone.recorded, killed.recorded, _tolerance(spec))))
    certificate = Certificate(spec, every, cases, manifest(spec, catalog or installed()))
    write_whole(out / CERTIFICATE, json.dumps(_finite(certificate.document()), indent=2) + "\n")
    return certificate


@dataclass(frozen=True)
class _Maker:
    out: Path
    steps: int
    say: Say
    progress: Progress

    def make(self, name: str, sessions: Sequence[Session]) -> Made:
        """One run of the verification, which is told as it goes."""
        kills = len(sessions) - 1
        self.say(f"{name}: {self.steps} steps on {processes(sessions[0].ranks)}" + (f", killed {kills} times" if kills else ""))
        return runs.make(self.out / "spec.yaml", self.out / name, sessions, self.say, lambda step: self.progress(name, step, self.steps))


def _tolerance(spec: Spec) -> Tolerance:
    return ROUNDING.get(spec.train.precision, ROUNDING["bf16"])


def _case(case: Case) -> dict[str, Any]:
    return {
        "case": case.title,
        "verdict": case.verdict,
        "kills": [kill._asdict() for kill in case.resumed.kills],
        "processes": list(case.resumed.ranks),
        "compared": [_row(one) for one in case.compared],
        "tensors": {"straight": tensor_digests(case.straight.recorded), "resumed": tensor_digests(case.resumed.recorded)},
    }


def _row(one: Compared) -> dict[str, Any]:
    tolerance = None if one.tolerance == ANY_NUMBER else one.tolerance
    return {**asdict(one), "tolerance": tolerance, "equal": one.equal, "holds": one.holds}


def _finite(value: Any) -> Any:
    """JSON has no infinity: what cannot be subtracted has no distance."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
