"""The cells of a study: an arm with one seed, a run directory of its own, and a state that is read from its files alone. Torch-free."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from llmkit.ablate.results import Cell, Ending
from llmkit.core.catalog import Catalog
from llmkit.core.kinds import Kind
from llmkit.core.manifest import components, hardware
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.data.cache import key_of
from llmkit.data.prepare import Prepared, Progress, prepare
from llmkit.runtime import load_spec
from llmkit.train.rows import whole_rows

Role = Literal["study", "tune"]

CELLS = "cells"
ENDING = "ending.json"
"""In a cell's directory: how it ended, and what its process measured."""

EVALUATIONS = "evals.json"
"""In a cell's directory: what evaluators found, by evaluation and by metric."""

RESULT = "result.json"

IMMATERIAL = {
    "": ("llmkit", "name", "requires", "eval"),
    "data": ("cache",),
    "train": (
        "checkpoint_every", "keep_checkpoints", "keep_every", "keep_best", "sample_every", "sample_prompts", "sample_tokens", "trackers",
    ),
}  # fmt: skip
"""By part of the spec: what changes no number of a cell, so that with another value it is still the same cell."""

CHECKPOINTS = 10
"""How many checkpoints a long cell leaves on its way where its spec asks for none, so that a kill costs a tenth of it at most."""

SHORT = 200
"""Steps of a cell that is begun anew rather than resumed."""


@dataclass(frozen=True)
class CellPlan:
    """One run of a study, before or after it ran.

    spec        filled, with `train.seed` = seed
    key         its identity: the same for the same numbers, on whatever day and in whatever study
    metric      what is read of it
    contents    of what it reads, by name, as its run records them
    evaluation  under what an evaluator's findings are kept, where the metric is one's: its parameters, revision and version
    """

    arm: str
    seed: int
    spec: Spec = field(compare=False, repr=False)
    key: str
    metric: str
    evaluation: str | None = None
    contents: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    role: Role = "study"

    @property
    def directory(self) -> Path:
        """A run's directory, relative to the study's."""
        return Path(CELLS) / self.arm.replace("/", "+") / f"seed-{self.seed}-{self.key[:8]}"

    def document(self) -> dict[str, Any]:
        """As JSON, for another process."""
        return {**vars(self), "spec": self.spec.model_dump(mode="json")}


def read_cell(document: Mapping[str, Any], catalog: Catalog) -> CellPlan:
    """A cell as another process wrote it."""
    return CellPlan(**{**document, "spec": load_spec(document["spec"], catalog=catalog)})


class Identities:
    """Makes cells of specs. What a cell reads is prepared here, once for all cells that read the same, and is part of their identity.

    A cell is known by its spec but for what changes no number, by the revision and version of every component that it uses, by the
    versions of llmkit and torch, by the kind of device, by the processor where `precision: auto` depends on it, and by the content of
    the text and of the tokenizer: a spec names files, not what is in them. Not by what changes nothing but the order in which is rounded:
    the number of threads, and how many seeds are trained together.

    kind  of device that cells run on; this machine's unless given
    """

    def __init__(self, catalog: Catalog, metric: str, progress: Progress | None = None, kind: str | None = None) -> None:
        self.catalog, self.metric, self.progress, self.device = catalog, metric, progress, kind or device()
        self._prepared: dict[str, Prepared] = {}

    def cell(self, arm: str, seed: int, spec: Spec, role: Role = "study") -> CellPlan:
        """The cell of an arm's spec. `UserError` where its text cannot be prepared."""
        training = spec.train.model_copy(update={"sample_every": None, "checkpoint_every": spec.train.checkpoint_every or _often(spec)})
        spec = spec.model_copy(update={"train": training})
        return CellPlan(arm, seed, spec, self.key(spec), self.metric, self._evaluation(spec), self._contents(spec), role)

    def key(self, spec: Spec) -> str:
        """SHA-256 of all that decides the numbers of a run."""
        automatic = spec.train.precision == "auto"
        facts = {
            "spec": material(spec),
            "components": [row for row in components(spec, self.catalog) if row["kind"] != Kind.evaluator],
            "versions": _versions(),
            "device": self.device,
            "processor": hardware()["processor"] if automatic else None,
            "text": self._contents(spec),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def circumstances(self) -> dict[str, str]:
        """What decides the numbers of all cells so far and stands in no spec, by address: versions, the device, each text's content."""
        texts = {f"text.{key_of(reads)[:8]}": key_of(prepared.contents()) for reads, prepared in self._prepared.items()}
        return {**{f"versions.{name}": version for name, version in _versions().items()}, "device": self.device, **texts}

    def _evaluation(self, spec: Spec) -> str | None:
        name = evaluator_of(self.metric)
        if name is None:
            return None
        entry = self.catalog.entry(Kind.evaluator, name)
        given = next((plain(chosen) for chosen in spec.eval if chosen.type == name), None)
        return key_of([name, given, entry.component.revision, entry.origin.version])

    def _contents(self, spec: Spec) -> dict[str, str]:
        reads = json.dumps([plain(spec.tokenizer), spec.model.vocab_size, spec.data.model_dump(mode="json")], sort_keys=True)
        if reads not in self._prepared:
            self._prepared[reads] = prepare(spec, progress=self.progress)
        return self._prepared[reads].contents()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("llmkit", "torch")}


def seeded(spec: Spec, seed: int) -> Spec:
    """A spec with this seed."""
    return spec.model_copy(update={"train": spec.train.model_copy(update={"seed": seed})})


def material(spec: Spec) -> dict[str, Any]:
    """The spec without what changes no number of a run."""
    document = spec.model_dump(mode="json")
    for part, names in IMMATERIAL.items():
        mapping = document[part] if part else document
        for name in names:
            mapping.pop(name, None)
    return document


def device() -> str:
    """`cuda` where the machine has a GPU that processes may use, else `cpu`; found without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return "cuda" if not hidden and Path("/proc/driver/nvidia/version").exists() else "cpu"


def order(cells: Sequence[CellPlan]) -> list[CellPlan]:
    """Seed by seed, each cell once: all arms of the first seed come first, so that pairs are complete early."""
    seeds = {seed: rank for rank, seed in enumerate(dict.fromkeys(cell.seed for cell in cells))}
    once = {cell.directory: cell for cell in cells}
    return sorted(once.values(), key=lambda cell: seeds[cell.seed])


def state(cell: CellPlan, study: Path) -> Cell | None:
    """How a cell ended, from its files; None where it did not end yet, lacks the evaluation that the metric is of, or read another text."""
    directory = study / cell.directory
    if changed(cell, directory):
        return None
    told = read_json(directory / ENDING)
    if told.get("ending") in ("diverged", "crashed"):
        return _cell(cell, told["ending"], told)
    result = read_json(directory / RESULT)
    found = _scores(cell, directory, result)
    if result.get("step", -1) < cell.spec.steps or found is None:
        return None
    value = found.get(cell.metric.rpartition(".")[2])
    if value is None or not math.isfinite(value):
        return _cell(cell, "diverged", told | {"reason": f"its {cell.metric} is no number"})
    rows = [row for _, row in whole_rows(directory / "metrics.jsonl")]
    return _cell(cell, "finished", told).model_copy(
        update={
            "value": float(value),
            "curve": [(row["tokens"], row[cell.metric]) for row in rows if row.get(cell.metric) is not None],
            "tokens": result["tokens"],
            "tokens_per_second": result["tokens_per_second"],
        }
    )


def _scores(cell: CellPlan, directory: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    return result if cell.evaluation is None else read_json(directory / EVALUATIONS).get(cell.evaluation)


def changed(cell: CellPlan, directory: Path) -> list[str]:
    """What a run read otherwise than its cell says, by name: its text was edited after the study had looked at it, and before it ran."""
    read = read_json(directory / "manifest.json").get("fingerprints", {})
    return [name for name, planned in cell.contents.items() if read.get(name, planned) != planned]


def missing(cell: CellPlan) -> Cell:
    """A cell that is planned and has not ended."""
    return _cell(cell, "missing", {})


def evaluator_of(metric: str) -> str | None:
    """The evaluator that a metric `EVALUATOR.METRIC` is of; None for what every run records."""
    return metric.rpartition(".")[0] or None


def read_json(path: Path) -> dict[str, Any]:
    """A mapping that a file holds; empty where there is no file, or a half of one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _cell(cell: CellPlan, ending: Ending, told: Mapping[str, Any]) -> Cell:
    return Cell(
        arm=cell.arm,
        seed=cell.seed,
        key=cell.key,
        directory=cell.directory.as_posix(),
        ending=ending,
        reason=told.get("reason"),
        seconds=told.get("seconds"),
        peak_memory_bytes=told.get("peak_memory_bytes"),
    )


def _often(spec: Spec) -> int | None:
    return None if spec.steps <= SHORT else max(SHORT, math.ceil(spec.steps / CHECKPOINTS))
