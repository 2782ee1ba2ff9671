"""Which documents were in a step of a run. Imports nothing heavy, unless the tokens must be made again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmkit.core.errors import UserError
from llmkit.data.passages import Passage, locate
from llmkit.train.rows import rows_of, steps_told


@dataclass(frozen=True)
class Sequence:
    """A training sequence by its number, and the passages of documents that it was cut from, the targets included."""

    item: int
    passages: list[Passage]


@dataclass(frozen=True)
class Step:
    """A step of a run, as its ledger tells it.

    skipped  whether its update was left out
    """

    run: str
    step: int
    loss: float | None
    grad_norm: float | None
    skipped: bool
    sequences: list[Sequence]

    def documents(self) -> list[tuple[str, int]]:
        """Every document with how many of its tokens were in the step, those with the most first."""
        tokens: Counter[str] = Counter()
        for sequence in self.sequences:
            for passage in sequence.passages:
                tokens[passage.document] += passage.end - passage.start
        return sorted(tokens.items(), key=lambda one: (-one[1], one[0]))

    def row(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "run": self.run,
            "step": self.step,
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "skipped": self.skipped,
            "documents": [{"document": document, "tokens": tokens} for document, tokens in self.documents()],
            "sequences": [{"item": one.item, "passages": [passage._asdict() for passage in one.passages]} for one in self.sequences],
        }


def read_step(run: str, step: int) -> Step:
    """What was in a step. `UserError` where there is no run or no such step, or where its tokens can no longer be made."""
    root = Path(run)
    if not (root / "spec.yaml").is_file():
        raise UserError(f"no run in {run!r}: it has no spec.yaml; train one with `llmkit train --out {run}`")
    row = _row(root / "ledger.jsonl", step)
    spec = yaml.safe_load((root / "spec.yaml").read_text(encoding="utf-8"))
    length = spec["train"].get("seq_len") or spec["model"]["max_seq_len"]
    passages = locate(_tokens(root, spec["data"]["cache"]), "train", [(item * length, (item + 1) * length + 1) for item in row["items"]])
    sequences = [Sequence(item, found) for item, found in zip(row["items"], passages, strict=True)]
    return Step(run, step, row["loss"], row["grad_norm"], row.get("skipped", False), sequences)


def _row(path: Path, step: int) -> dict[str, Any]:
    found = rows_of(path, step)
    if found:
        return found[0]
    told = steps_told(path)
    if told is None:
        raise UserError(f"{str(path)!r} tells of no step: the run was not trained yet, or the file is gone")
    raise UserError(f"{str(path)!r} does not tell of step {step}, but of steps {told[0]} to {told[1]}; name one of these with --step")


def _tokens(root: Path, cache: str) -> Path:
    """The directory of the tokens that the run was trained on: known by their checksum, whatever became of the source since."""
    manifest = root / "manifest.json"
    checksum = json.loads(manifest.read_text())["fingerprints"]["training_tokens"] if manifest.is_file() else None
    for record in sorted((Path(cache).expanduser() / "tokens").glob("*/train.json")):
        if _is_whole(record.parent) and _is_of(record, checksum):
            return record.parent
    return _made_again(root, checksum)


def _is_whole(directory: Path) -> bool:
    """Whether nothing is still to be written there, or left by a process that died."""
    return directory.suffix != ".part"


def _is_of(record: Path, checksum: str | None) -> bool:
    """Whether these tokens are those; what an earlier llmkit wrote was one file, in which passages lie elsewhere."""
    try:
        manifest = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "shards" in manifest and manifest["sha256"] == checksum


def _made_again(root: Path, checksum: str | None) -> Path:
    from llmkit.data.prepare import prepare
    from llmkit.train.run import RunDirectory

    tokens = prepare(RunDirectory(root).load_spec()).train
    if tokens.manifest["sha256"] != checksum:
        raise UserError(
            f"the tokens that the run {str(root)!r} was trained on are no longer in data.cache, and what data.source reads now gives "
            "others: bring back the text that it was trained on"
        )
    return tokens.directory
