"""A study's directory: the study as it was frozen, what was amended since, its cells, and what was found. Torch-free.

study.yaml        the study with nothing outside it, as it was before the first run
record.json       its name and hash, when it began, with which commands, how long it has run, and what else decides its numbers: whether it
                  looks after every seed, the versions, the device, the content of its texts
amendments.jsonl  what another call said otherwise: when, address, was, now
plan.json         the arms, matched and counted, for calls that need not count them again
cells/            a run's directory each
results.json      and the report: report.html, report.md, results.csv, table.tex
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock

from llmkit import __version__
from llmkit.ablate.cells import read_json
from llmkit.ablate.results import Amendment, Difference, StudyResult
from llmkit.ablate.study import Amended, Study, amendments, load_study
from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.filled import to_yaml
from llmkit.core.manifest import hardware
from llmkit.core.spec import Spec
from llmkit.data.cache import key_of
from llmkit.data.durable import told, write_whole
from llmkit.runtime import load_spec

RESULTS = "results.json"
RECORD = "record.json"

MAX_SEEDS = "max_seeds"
"""Up to how many seeds a study looks after every one; None where it looks once, at the end. In amendments it has this address, though it
is an option of the command and no key of a study."""

BESIDE = frozenset({MAX_SEEDS, "versions", "device", "text"})
"""How the addresses begin that no study says, and that are amended all the same: the option, and what else decides a cell's numbers."""


@dataclass(frozen=True)
class KeptArm:
    """An arm as it was planned, from the plan or from what was kept of it.

    confounders  what differs besides the thing under study, in words; `confounding` those that make its verdict `confounded`
    """

    name: str
    choices: Mapping[str, str]
    spec: Spec
    differences: list[Difference]
    confounders: list[str]
    confounding: list[str]
    matched: str | None
    parameters: dict[str, int]
    flops_per_token: dict[str, float]
    kv_cache_bytes_per_token: float
    tokens: int


@dataclass(frozen=True)
class KeptPlan:
    """A study's arms, and what a person should know of them."""

    arms: tuple[KeptArm, ...]
    warnings: tuple[str, ...]


class StudyDirectory:
    """Where everything of a study lies. Several processes may work in it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.study = root / "study.yaml"
        self.results = root / RESULTS
        self.record = root / RECORD
        self.amendments = root / "amendments.jsonl"
        self.plan = root / "plan.json"

    def check(self, study: Study) -> None:
        """`UserError` where something else than this study lies here: nothing was amended where another study was meant."""
        if not self.study.exists() and (self.results.exists() or (self.root / "spec.yaml").exists()):
            raise UserError(f"{str(self.root)!r} holds something else than a study; choose another directory with --out")
        record = self.recorded() if self.study.exists() else {}
        if record.get("study", study.name) != study.name and record["hash"] != study.hash:
            raise UserError(
                f"{str(self.root)!r} holds the study {record['study']!r}, and this one is {study.name!r}; choose another directory with "
                f"--out, or say `name: {record['study']}` where it is the same study amended"
            )

    def freeze(
        self,
        study: Study,
        catalog: Catalog,
        *,
        max_seeds: int | None,
        command: str,
        circumstances: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Amendment]:
        """Write the study down where it is new; where it is another than it was, write down what has changed. All amendments so far.

        max_seeds      up to how many seeds it looks after every one; None where it looks as it did, at first once at the end
        circumstances  what decides its numbers besides, by address

        `UserError` where the directory cannot be written.
        """
        with told(f"the study {str(self.root)!r}", otherwise="choose another directory with --out"):
            self.root.mkdir(parents=True, exist_ok=True)
            with self._alone():
                if not self.study.exists():
                    self._begin(study, command, {MAX_SEEDS: max_seeds, **circumstances})
                    return []
                return self._amend(study, catalog, command, {**({} if max_seeds is None else {MAX_SEEDS: max_seeds}), **circumstances})

    def recorded(self) -> dict[str, Any]:
        """`study`, `hash`, `created`, `command`, `beside`, `seconds`, `machine`; empty before the first run."""
        return read_json(self.record)

    @property
    def max_seeds(self) -> int | None:
        """Up to how many seeds the study looks after every one, as it was amended last; None where it looks once, at the end."""
        found: int | None = _beside(self.recorded(), self.amended()).get(MAX_SEEDS)
        return found

    def amended(self) -> list[Amendment]:
        """What was changed since the first run, in order."""
        lines = self.amendments.read_text(encoding="utf-8").splitlines() if self.amendments.exists() else []
        return [Amendment(**json.loads(line)) for line in lines]

    def add_seconds(self, seconds: float) -> float:
        """Add what a call took; the sum over all calls."""
        with self._alone():
            record = self.recorded()
            total = float(record.get("seconds", 0.0)) + seconds
            write_whole(self.record, _json(record | {"seconds": total}))
        return total

    def kept_plan(self, study: Study, catalog: Catalog, make: Callable[[], Any]) -> KeptPlan:
        """The plan of this study: what was kept of it, or what `make` makes where another was kept, or by other versions."""
        identity = key_of([study.hash, catalog.fingerprint, __version__])
        kept = read_json(self.plan)
        if kept.get("identity") != identity:
            made = make()
            arms = [arm.row() | {"spec": arm.spec.model_dump(mode="json")} for arm in made.arms]
            kept = {"identity": identity, "arms": arms, "warnings": list(made.warnings)}
            with told(f"the plan in {str(self.root)!r}"):
                self.root.mkdir(parents=True, exist_ok=True)
                with self._alone():
                    write_whole(self.plan, _json(kept))
        return KeptPlan(tuple(_kept_arm(arm, catalog) for arm in kept["arms"]), tuple(kept["warnings"]))

    def write_results(self, result: StudyResult) -> None:
        """Write `results.json`."""
        with told(f"{str(self.results)!r}", "every cell is as it was"), self._alone():
            write_whole(self.results, json.dumps(result.model_dump(mode="json"), indent=1) + "\n")

    def _begin(self, study: Study, command: str, beside: Mapping[str, Any]) -> None:
        now = _now()
        record = {
            "study": study.name,
            "hash": study.hash,
            "created": now,
            "command": command,
            "beside": beside,
            "llmkit": __version__,
            "machine": hardware(),
            "seconds": 0.0,
        }
        # The study comes last: from then on it is frozen, and all that belongs to it is there.
        write_whole(self.record, _json(record))
        write_whole(self.study, f"# frozen {now}, sha256 {study.hash}\n" + to_yaml(study.document()))

    def _amend(self, study: Study, catalog: Catalog, command: str, beside: Mapping[str, Any]) -> list[Amendment]:
        record, known = self.recorded(), self.amended()
        of_study = [one for one in known if not _is_beside(one)]
        # Frozen once and never amended: what need not be read is not read.
        same = study.hash == record["hash"] and not of_study
        new = [] if same else _unrecorded(amendments(self._frozen(catalog), study), of_study)
        before = _beside(record, known)
        new += [
            Amendment(when=_now(), address=address, was=before[address], now=value)
            for address, value in beside.items()
            if address in before and before[address] != value
        ]
        # A text that this study reads from now on was never another one: it is frozen as it is.
        frozen = {**beside, **record.get("beside", {})}
        commands = dict.fromkeys([*record["command"].splitlines(), *([command] if new else [])])
        # The amendments come first: they alone say what has changed, and are never told twice.
        if new:
            write_whole(self.amendments, "".join(amendment.model_dump_json() + "\n" for amendment in (*known, *new)))
        if new or frozen != record.get("beside"):
            write_whole(self.record, _json(record | {"beside": frozen, "command": "\n".join(filter(None, commands))}))
        return [*known, *new]

    def _frozen(self, catalog: Catalog) -> Study:
        return load_study(self.study, catalog=catalog)

    def _alone(self) -> FileLock:
        return FileLock(self.root / ".lock")


def _is_beside(one: Amendment) -> bool:
    return one.address.partition(".")[0] in BESIDE


def _beside(record: Mapping[str, Any], known: Sequence[Amendment]) -> dict[str, Any]:
    """What no study says, as it was amended last."""
    return {**record.get("beside", {}), **{one.address: one.now for one in known if _is_beside(one)}}


def _unrecorded(changed: Sequence[Amended], of_study: Sequence[Amendment]) -> list[Amendment]:
    """What has changed since the last amendment.

    changed  from the study as it was frozen
    """
    when = _now()
    frozen = {one.address: one.was for one in reversed(of_study)}
    before = {one.address: one.was for one in changed} | {one.address: one.now for one in of_study}
    now = frozen | {one.address: one.now for one in changed}
    return [
        Amendment(when=when, address=address, was=before[address], now=value) for address, value in now.items() if before[address] != value
    ]


def _kept_arm(row: Mapping[str, Any], catalog: Catalog) -> KeptArm:
    confounders = row["confounders"]
    return KeptArm(
        name=row["name"],
        choices=row["choices"],
        spec=load_spec(row["spec"], catalog=catalog),
        differences=[Difference(**one) for one in row["differences"]],
        confounders=[one["message"] for one in confounders],
        confounding=[one["message"] for one in confounders if one["severity"] == "confounded"],
        matched=row["matched"],
        parameters=row["parameters"],
        flops_per_token=row["flops_per_token"],
        kv_cache_bytes_per_token=row["kv_cache_bytes_per_token"],
        tokens=row["tokens"],
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"
