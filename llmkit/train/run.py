"""A run's directory, and how to load what lies in it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.filled import filled, to_yaml
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.manifest import revisions
from llmkit.core.spec import Spec
from llmkit.data.durable import copy_whole, is_draft, shorten, told, write_whole
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.runtime import catalog as installed
from llmkit.runtime import load_spec
from llmkit.train import checkpoint as checkpoints
from llmkit.train.checkpoint import Checkpoint, earlier_names
from llmkit.train.lock import LOCK, alone
from llmkit.train.record import manifest_of
from llmkit.train.rows import RowFiles, end_of, end_of_first, rows_of

IMPORTED = "imported"
"""Key of the manifest of a run that was imported: from which family."""

SPIKES = "spikes"
ROWS = ("metrics", "ledger", "samples", SPIKES)
"""What a run tells of its steps, a JSON object a line."""


class RunDirectory:
    """Where everything of a run lies. Who adds rows uses it in a `with`, at whose end their files are closed.

    spec.yaml (filled), manifest.json, metrics.jsonl, ledger.jsonl, samples.jsonl, result.json, tokenizer/, checkpoints/
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = root / "spec.yaml"
        self.manifest = root / "manifest.json"
        self.result = root / "result.json"
        self.tokenizer = root / "tokenizer"
        self.checkpoints = root / "checkpoints"
        self._told: dict[str, list[dict[str, Any]]] = {}
        self._rows = RowFiles(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rows.close()

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.spec.exists()

    def occupied(self) -> bool:
        """Whether anything at all lies here, besides a lock, and what a process that died at its very beginning left half-written."""
        if not self.root.is_dir():
            return self.root.exists()
        return any(not is_draft(path) and path.name != LOCK for path in self.root.iterdir())

    def begin(self, spec: Spec, manifest: dict[str, Any], tokenizer: Path | None) -> None:
        """Write what a run has before its first step.

        The spec comes first: from then on this is a run, and whatever interrupts the rest, the same command goes on with it.
        """
        with told(f"the run {str(self.root)!r}", otherwise="choose another directory with --out"):
            self.root.mkdir(parents=True, exist_ok=True)
            self.record_spec(spec)
            write_whole(self.manifest, json.dumps(manifest, indent=2) + "\n")
            if tokenizer is not None:
                copy_whole(tokenizer, self.tokenizer, ignore=["seal.json"])

    def record_spec(self, spec: Spec) -> None:
        """Write the filled spec."""
        write_whole(self.spec, to_yaml(filled(spec)))

    def load_spec(self, catalog: Catalog | None = None) -> Spec:
        """The spec as the run recorded it, in the names that its parameters have now.

        `UserError` where a component that is installed cannot read what the run's revision of it wrote.
        """
        known = installed() if catalog is None else catalog
        return load_spec(self.spec, self._own_files(), catalog=known, recorded=revisions(self.load_manifest(), known))

    def _own_files(self) -> list[str]:
        """Overrides where the spec names a tokenizer's files that are gone, or lie elsewhere on another machine: the run has a copy."""
        if not (self.spec.is_file() and self.tokenizer.is_dir()):
            return []
        chosen = yaml.safe_load(self.spec.read_text(encoding="utf-8")).get("tokenizer")
        path = chosen.get("path") if isinstance(chosen, dict) else None
        if not isinstance(path, str) or Path(path).expanduser().exists():
            return []
        return [f"tokenizer.path={json.dumps(str(self.tokenizer.resolve()))}"]

    def load_manifest(self) -> dict[str, Any]:
        """What the run recorded about itself; empty where it was killed before it could."""
        return dict(json.loads(self.manifest.read_text())) if self.manifest.exists() else {}

    def recorded_result(self) -> dict[str, Any] | None:
        """What the finished run printed; None where it is not finished."""
        return json.loads(self.result.read_text()) if self.result.exists() else None

    def record_result(self, result: dict[str, Any]) -> None:
        """Write what the finished run prints."""
        with told(f"{str(self.result)!r}", "the last checkpoint is complete"):
            write_whole(self.result, json.dumps(result, indent=2) + "\n")

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to `<name>.jsonl`; it is in the file before this returns. `UserError` where the disk does not let it."""
        try:
            self._rows.append(name, row)
        except OSError:
            # Words are found where they are needed: with every row they would take as long as the row.
            with told(f"{str(self._rows.path(name))!r}", "the last complete checkpoint is as it was"):
                raise

    def append_once(self, name: str, row: dict[str, Any], by: Sequence[str]) -> None:
        """`append`, unless a run that was killed after it had told this, and goes on from this very step, has told it.

        by  keys whose values make two rows that have the same keys tell the same thing
        """
        if not any(known.keys() == row.keys() and all(known[key] == row[key] for key in by) for known in self._told.get(name, ())):
            self.append(name, row)

    def rows_of(self, name: str, step: int) -> list[dict[str, Any]]:
        """What `<name>.jsonl` tells of a step."""
        return rows_of(self._rows.path(name), step)

    def row_files(self) -> list[Path]:
        """The files of rows that the run has."""
        return [path for name in ROWS if (path := self._rows.path(name)).exists()]

    def cut(self, step: int, spikes: int = 0) -> None:
        """Forget the result, later checkpoints, and rows after a checkpoint's step or torn by a crash, so that each step is told once.

        spikes  how many rows of spikes.jsonl the checkpoint knows of

        In this order: whatever interrupts it, no checkpoint stays whose steps are told no more.
        """
        self._rows.close()
        with told(f"the run {str(self.root)!r}"):
            self.result.unlink(missing_ok=True)
            for later in checkpoints.listed(self.checkpoints):
                if later.step > step:
                    later.remove()
            for path in self.row_files():
                # A spike that the run went back from was in a step after the checkpoint that knows of it.
                shorten(path, end_of_first(path, spikes) if path.stem == SPIKES else end_of(path, step))
            self._told = {name: self.rows_of(name, step) for name in ROWS if name != SPIKES}


def write_initialised(spec: Spec, out: Path) -> None:
    """A run that was not trained yet: the filled spec, and a checkpoint of step 0 with the initial values. Training goes on from there."""
    directory = RunDirectory(out)
    with alone(out, warnings.warn):
        directory.begin(spec, manifest_of(spec, installed()), None)
        checkpoints.write(directory.checkpoints, 0, build(spec), trainer={"tokens": 0, "seed": spec.train.seed})


@dataclass(frozen=True)
class Run:
    """A run in memory: `model` in evaluation mode on the CPU, `tokenizer`, and where they came from."""

    model: Decoder
    spec: Spec
    directory: Path
    step: int

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer. `UserError` where it has none: it was built and not trained yet."""
        return load_tokenizer(RunDirectory(self.directory), self.spec)


def load_run(path: str | Path, catalog: Catalog | None = None) -> Run:
    """Load a run's latest checkpoint, or one checkpoint of it by its directory.

    Raises `UserError` where there is no run, no complete checkpoint, or a component is missing.
    """
    given = Path(path)
    directory = RunDirectory(given.parent.parent if given.parent.name == "checkpoints" else given)
    if not directory.exists():
        raise UserError(f"no run in {str(given)!r}: it has no spec.yaml; train one with `llmkit train --out {given}`")
    found = _checkpoint(given, directory)
    spec = directory.load_spec(catalog)
    model = build(spec)
    found.load_model(model, earlier_names(model, spec))
    return Run(model.eval(), spec, directory.root, found.step)


def load_tokenizer(directory: RunDirectory, spec: Spec) -> Tokenizer:
    """The run's tokenizer. `UserError` where it has none yet."""
    if not directory.tokenizer.is_dir():
        if IMPORTED in directory.load_manifest():
            raise UserError(f"run {str(directory.root)!r} was imported without a tokenizer; import it again with --tokenizer FILE")
        raise UserError(f"run {str(directory.root)!r} has no tokenizer yet: it was built, not trained; run `llmkit train` on it")
    kind: type[Tokenizer] = spec.tokenizer.component.resolve()
    return kind.load(spec.tokenizer.params, directory.tokenizer)


def _checkpoint(given: Path, directory: RunDirectory) -> Checkpoint:
    if given != directory.root:
        return named_checkpoint(given)
    damaged: list[str] = []
    found = checkpoints.latest(directory.checkpoints, damaged.append)
    if found is None:
        raise UserError("; ".join([f"run {str(given)!r} has no complete checkpoint", *damaged]))
    for text in damaged:
        warnings.warn(text, stacklevel=3)
    return found


def named_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at this path, whole. `UserError` where it is not."""
    step = path.name.removeprefix("step-")
    if not path.is_dir() or not step.isdigit():
        raise UserError(f"no checkpoint at {str(path)!r}; a checkpoint is a directory such as runs/NAME/checkpoints/step-00000100")
    found = Checkpoint(path, int(step))
    damage = found.damage()
    if damage is not None:
        raise UserError(f"checkpoint {str(path)!r} is damaged ({damage}); name an earlier one")
    return found
