"""The ledger: every study below a directory, with what it found, nothing included. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmkit.ablate.cells import CELLS, read_json
from llmkit.ablate.directory import StudyDirectory
from llmkit.ablate.results import ArmResult, StudyResult
from llmkit.core.errors import UserError


@dataclass(frozen=True)
class Listed:
    """A study in a directory.

    result   what it found; None where it has not ended, or by an llmkit that wrote otherwise
    current  whether the result is of the study as it stands: it was not amended since
    """

    directory: Path
    name: str
    created: str
    result: StudyResult | None
    current: bool = True

    @property
    def standing(self) -> str:
        """`complete`, `amended since`, or `unfinished`."""
        if self.result is None or not self.result.complete:
            return "unfinished"
        return "complete" if self.current else "amended since"

    def document(self) -> dict[str, Any]:
        """As `ablate --ledger --json` prints it."""
        found = self.result
        return {
            "directory": str(self.directory),
            "study": self.name,
            "created": self.created,
            "standing": self.standing,
            "hash": None if found is None else found.hash,
            "baseline": None if found is None else found.baseline,
            "metric": None if found is None else found.metric,
            "amendments": 0 if found is None else len(found.amendments),
            "arms": [_row(arm) for arm in self.judged],
        }

    @property
    def judged(self) -> list[ArmResult]:
        """Every arm but the baseline."""
        return [] if self.result is None else [arm for arm in self.result.arms if arm.name != self.result.baseline]


def ledger(root: Path) -> list[Listed]:
    """All studies below a directory, the oldest first. `UserError` where there is no such directory."""
    if not root.is_dir():
        raise UserError(f"no directory {str(root)!r}; studies lie in `studies` unless --out says otherwise: name their directory")
    return sorted((_listed(place) for place in _studies(root)), key=lambda one: (one.created, str(one.directory)))


def _studies(root: Path) -> Iterator[Path]:
    for place, directories, files in os.walk(root):
        if "study.yaml" in files and "record.json" in files:
            directories[:] = [name for name in directories if name != CELLS]
            yield Path(place)
        directories[:] = sorted(name for name in directories if not name.startswith("."))


def _listed(place: Path) -> Listed:
    directory = StudyDirectory(place)
    record = directory.recorded()
    return Listed(place, place.name, str(record.get("created", "")), *_result(directory, record))


def _result(directory: StudyDirectory, record: dict[str, Any]) -> tuple[StudyResult | None, bool]:
    try:
        found = StudyResult.model_validate(read_json(directory.results))
    except ValidationError:
        return None, True
    return found, len(directory.amended()) == len(found.amendments)


def _row(arm: ArmResult) -> dict[str, Any]:
    one = arm.judgement
    return {
        "name": arm.name,
        "seeds": one.seeds,
        "difference": one.difference,
        "interval": one.interval,
        "p_adjusted": one.p_adjusted,
        "verdict": one.verdict,
        "worth": None if arm.worth is None else arm.worth.words,
        "reason": one.reason,
    }
