"""From sources to cleaned shards of documents: every stage up to the split, made or reused by what decides it.

Each stage has a key that is computed before anything is read: what the spec says of it, its component's revision and fingerprint, and
the key of the stage before. So what is finished stays finished until one of these changes, and where a later stage is there already no
earlier one is looked at.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.deduplicator import Deduplicator
from llmkit.core.interfaces.extractor import Extractor
from llmkit.core.interfaces.source import Document, Source
from llmkit.core.packages import installed
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.data import deduplicating
from llmkit.data.accounting import MEASURED, ShardAccount, StageAccount, Tally, merged, write_account
from llmkit.data.cache import Cache, key_of
from llmkit.data.cleaning import EXTRACT, Cleaning, FilterStage
from llmkit.data.deduplicating import Cutting, Found, Sketching
from llmkit.data.document_shards import ENDING, Row, read_groups
from llmkit.data.funnel import Audit
from llmkit.data.learning import References, facts_of, stage_of
from llmkit.data.reading import BROKEN, READ, ReadAccount, Reading
from llmkit.data.workers import Job, Task, Tell

FORMAT = 1
"""Raised where the same parameters give other shards."""

Progress = Callable[[str, int, int | None], None]
"""Called as (stage, done, in all where known), in documents or in shards."""

HELD_OUT = "holdout"
"""The name of the held-out source."""

FOUND = "found.json"
AUDIT = "audit.json"
SKETCHES = "sketches"
AUDITED = 2_000
"""How many documents a deduplicator's recall and precision are measured on."""


class Engine(Protocol):
    """What runs tasks: this machine's processes, or a cluster."""

    def run(self, job: Job, directory: Path, tasks: Sequence[Task], tell: Tell) -> None:
        """Do every task that is not done."""
        ...


class Shard(NamedTuple):
    """A shard of documents."""

    path: Path
    documents: int
    bytes: int


@dataclass(frozen=True)
class Documents:
    """What a source has become so far.

    source        how the spec calls it
    stages        what each stage that it went through did
    pages         how many of its documents were HTML
    broken        reason -> records that were no documents
    first_broken  the first of these
    set_aside     files that tell of them
    lengths_read  of its documents as they came out of `extract`
    """

    source: str
    shards: tuple[Shard, ...]
    stages: Mapping[str, StageAccount]
    pages: int = 0
    broken: Counter[str] | None = None
    first_broken: str = ""
    set_aside: tuple[Path, ...] = ()
    lengths_read: Counter[int] | None = None

    @property
    def tally(self) -> Tally:
        """How much there is."""
        return Tally(documents=sum(shard.documents for shard in self.shards), bytes=sum(shard.bytes for shard in self.shards))

    def rows(self) -> Iterator[Row]:
        """Every document, in order."""
        for shard in self.shards:
            for rows in read_groups(shard.path):
                yield from rows


class Cleaned:
    """The documents of a spec, made stage by stage where they are wanted.

    strict  whether a broken record is an error
    """

    def __init__(self, spec: Spec, cache: Cache, engine: Engine, progress: Progress, *, strict: bool = False) -> None:
        self.spec, self.cache, self.engine, self.progress, self.strict = spec, cache, engine, progress, strict
        self._sources = spec.data.named_sources
        self.references = References(spec, self._held_out_documents, None if spec.data.holdout is None else self._held_out_key)

    @cached_property
    def key(self) -> str:
        """Changes whenever a document may have."""
        return self._deduplicated_keys[-1] if self._deduplicated_keys else key_of(list(self._cleaned_keys.items()))

    @cached_property
    def held_out_key(self) -> Any:
        """What decides which documents are held out."""
        return self.spec.data.validation if self.spec.data.holdout is None else self._held_out_key

    @cached_property
    def documents(self) -> list[Documents]:
        """What is left of each source."""
        found = self.cleaned
        for number in range(len(self.spec.data.deduplicators)):
            found = self._deduplicated(number, found)
        if not any(one.tally.documents for one in found):
            raise UserError(_nothing_left(found))
        return found

    @cached_property
    def cleaned(self) -> list[Documents]:
        """What the filters leave of each source."""
        return [
            self._cleaned(name, self._read(name, chosen, self._own_name(name), self._read_keys[name], self.described(name)))
            for name, chosen in self._sources.items()
        ]

    @cached_property
    def held_out(self) -> Documents | None:
        """The held-out source: extracted and not filtered."""
        holdout = self.spec.data.holdout
        if holdout is None:
            return None
        read = self._read(HELD_OUT, holdout, HELD_OUT, self._held_out_read_key, "data.holdout")
        return self._clean(read, self._held_out_key, ()) if read.pages else read

    @property
    def read(self) -> list[Documents]:
        """Everything that was read, the held-out source too."""
        return self.documents if self.held_out is None else [*self.documents, self.held_out]

    def filters_of(self, source: str) -> dict[str, Chosen]:
        """The filters that see a source."""
        return {name: chosen for name, chosen in self.spec.data.filters.items() if source in _seen(chosen, self._sources)}

    @cached_property
    def filter_stages(self) -> dict[str, FilterStage]:
        """The filters by their names, which have learned what they have to."""
        return {name: stage_of(name, chosen, self.references, self.cache) for name, chosen in self.spec.data.filters.items()}

    def found(self, name: str) -> tuple[Found, Audit | None]:
        """What a deduplicator found."""
        place = self._deduplicated_places[name]
        audit = place / AUDIT
        return (
            Found.model_validate_json((place / FOUND).read_text(encoding="utf-8")),
            Audit.model_validate_json(audit.read_text(encoding="utf-8")) if audit.exists() else None,
        )

    # The keys: of a source as it is read, as it is cleaned, and of all sources together after each deduplicator.

    def _read_key(self, name: str | None, chosen: Chosen) -> str:
        source: Source = chosen.make()
        facts = {**plain(chosen), "revision": chosen.component.revision, "fingerprint": source.fingerprint()}
        return key_of({"format": FORMAT, "name": name, "source": facts})

    @property
    def _extractor(self) -> dict[str, Any]:
        chosen = self.spec.data.extractor
        kind: type[Extractor] = chosen.component.resolve()
        return {**plain(chosen), "revision": chosen.component.revision, "package": kind.package and installed(kind.package)}

    @cached_property
    def _read_keys(self) -> dict[str, str]:
        return {name: self._read_key(self._own_name(name), chosen) for name, chosen in self._sources.items()}

    @cached_property
    def _held_out_read_key(self) -> str:
        holdout = self.spec.data.holdout
        if holdout is None:
            raise ValueError("nothing is held out by a source")
        return self._read_key(HELD_OUT, holdout)

    @cached_property
    def _held_out_key(self) -> str:
        return self._cleaned_key(self._held_out_read_key, {})

    @cached_property
    def _cleaned_keys(self) -> dict[str, str]:
        return {name: self._cleaned_key(key, self.filters_of(name)) for name, key in self._read_keys.items()}

    def _cleaned_key(self, read: str, filters: Mapping[str, Chosen]) -> str:
        facts = [facts_of(name, chosen, self.references) for name, chosen in filters.items()]
        return key_of({"format": FORMAT, "read": read, "extractor": self._extractor, "filters": facts})

    @cached_property
    def _deduplicated_keys(self) -> list[str]:
        keys: list[str] = []
        before = key_of(list(self._cleaned_keys.items()))
        for name, chosen in self.spec.data.deduplicators.items():
            facts = {"name": name, **plain(chosen), "revision": chosen.component.revision}
            before = key_of({"format": FORMAT, "documents": before, "deduplicator": facts})
            keys.append(before)
        return keys

    @cached_property
    def _deduplicated_places(self) -> dict[str, Path]:
        names = self.spec.data.deduplicators
        return {name: self.cache.root / "deduplicated" / key for name, key in zip(names, self._deduplicated_keys, strict=True)}

    def _own_name(self, name: str) -> str | None:
        return name if self.spec.data.sources is not None else None

    # The stages.

    def _read(self, name: str, chosen: Chosen, own: str | None, key: str, what: str) -> Documents:
        source: Source = chosen.make()
        job = Reading(chosen, own, source.shards(), self.strict)

        def make(draft: Path) -> None:
            self.engine.run(job, draft, job.tasks, lambda done, total: self.progress("reading", done, total))
            if self._read_key(own, chosen) != key:
                # Of what was changed, files may be twice in it or not at all.
                shutil.rmtree(draft, ignore_errors=True)
                raise UserError(f"{what} was changed while it was read; run the same command again once nothing writes to it")

        place = self.cache.entry("read", key, make, resumed=True)
        parts = [part for task in job.tasks for part in _load(ReadAccount, task.account(place)).parts]
        broken = Counter[str]()
        for part in parts:
            broken.update(part.broken)
        lengths = Counter[int]()
        for part in parts:
            lengths.update(part.lengths)
        found = Documents(
            name,
            tuple(Shard(place / f"{part.name}.{ENDING}", part.read.after.documents, part.read.after.bytes) for part in parts),
            {READ: merged(part.read for part in parts)},
            sum(part.pages for part in parts),
            broken,
            next((part.first for part in parts if part.first), ""),
            tuple(path for part in parts if (path := place / f"{part.name}.{BROKEN}").exists()),
            lengths,
        )
        self._check_read(found, what)
        return found

    def _check_read(self, found: Documents, what: str) -> None:
        if not found.tally.documents:
            raise UserError(f"{what} yields no text{_why_none(found)}")
        if self.strict and found.broken:
            raise UserError(f"{what}: {found.first_broken}; mend it, or leave --strict out to set such records aside")

    def described(self, source: str) -> str:
        """A source as messages call it."""
        return f"data.sources.{source}" if self.spec.data.sources is not None else f"data.source {source!r}"

    def _cleaned(self, name: str, read: Documents) -> Documents:
        filters = tuple(self.filter_stages[filter_name] for filter_name in self.filters_of(name))
        return self._clean(read, self._cleaned_keys[name], filters) if filters or read.pages else read

    def _clean(self, read: Documents, key: str, filters: tuple[FilterStage, ...]) -> Documents:
        job = Cleaning(
            tuple(shard.path for shard in read.shards),
            self.spec.data.extractor if read.pages else None,
            filters,
            min(1.0, 1.2 * MEASURED / read.tally.documents),
        )
        tasks = [Task(index, shard.bytes) for index, shard in enumerate(read.shards)]

        def make(draft: Path) -> None:
            self.engine.run(job, draft, tasks, lambda done, total: self.progress("cleaning", done, total))

        place = self.cache.entry("cleaned", key, make, resumed=True)
        accounts = [_load(ShardAccount, task.account(place)) for task in tasks]
        names = [*([EXTRACT] if read.pages else []), *(one.stage for one in filters)]
        lengths = Counter[int]()
        for account in accounts:
            lengths.update(account.lengths_read)
        return replace(
            read,
            shards=_shards(place, accounts),
            stages={**read.stages, **{name: merged(account.stages[name] for account in accounts) for name in names}},
            lengths_read=lengths if read.pages else read.lengths_read,
        )

    def _deduplicated(self, number: int, before: list[Documents]) -> list[Documents]:
        name, chosen = list(self.spec.data.deduplicators.items())[number]
        shards = [shard for one in before for shard in one.shards]
        tasks = [Task(index, shard.bytes) for index, shard in enumerate(shards)]

        def make(draft: Path) -> None:
            job = self._resolved(name, chosen, shards, tasks, draft)
            self.engine.run(job, draft, tasks, lambda done, total: self.progress("deduplicating", done, total))

        place = self.cache.entry("deduplicated", self._deduplicated_keys[number], make, resumed=True)
        accounts = [_load(ShardAccount, task.account(place)) for task in tasks]
        cut = list(accumulate((len(one.shards) for one in before), initial=0))
        left: list[Documents] = []
        for one, start, end in zip(before, cut, cut[1:], strict=False):
            account = merged(shard.stages[f"deduplicators.{name}"] for shard in accounts[start:end])
            stages = {**one.stages, f"deduplicators.{name}": account}
            left.append(replace(one, shards=_shards(place, accounts)[start:end], stages=stages))
        return left

    def _resolved(self, name: str, chosen: Chosen, shards: Sequence[Shard], tasks: Sequence[Task], draft: Path) -> Cutting:
        """Sketch, and look at all sketches, where that is not done; what is left to do."""
        sketches, input = draft / SKETCHES, tuple(shard.path for shard in shards)
        first = tuple(accumulate((shard.documents for shard in shards), initial=0))[:-1]
        if not (draft / FOUND).exists():
            sketches.mkdir(exist_ok=True)
            self.engine.run(
                Sketching(input, chosen), sketches, tasks, lambda done, total: self.progress("looking for duplicates", done, total)
            )
            found = deduplicating.resolve(chosen, sketches, len(shards), draft)
            self._audit(chosen, input, sketches, draft)
            write_account(draft / FOUND, found)
        for path in sketches.glob("*.sketches"):
            path.unlink()
        return Cutting(name, input, chosen, first, draft, sketches)

    def _audit(self, chosen: Chosen, input: Sequence[Path], sketches: Path, draft: Path) -> None:
        made: Deduplicator = chosen.make()
        if made.match_rate(0.5) is None:
            return
        found = deduplicating.audited(made, deduplicating.sampled_texts(made, input, sketches, AUDITED))
        if found is not None:
            (draft / AUDIT).write_text(found.model_dump_json() + "\n", encoding="utf-8")

    def _held_out_documents(self) -> Iterator[Document]:
        if self.held_out is not None:
            yield from (row.document for row in self.held_out.rows())


def _seen(chosen: Chosen, sources: Mapping[str, Chosen]) -> Sequence[str]:
    """The sources that a filter sees."""
    named: list[str] | None = getattr(chosen.params, "sources", None)
    return list(sources) if named is None else named


def _shards(place: Path, accounts: Sequence[ShardAccount]) -> tuple[Shard, ...]:
    return tuple(Shard(place / f"{Task(index).name}.{ENDING}", account.documents, account.bytes) for index, account in enumerate(accounts))


def _load(kind: Any, path: Path) -> Any:
    return kind.model_validate_json(path.read_text(encoding="utf-8"))


def _nothing_left(found: Sequence[Documents]) -> str:
    reasons = Counter[str]()
    for one in found:
        for stage, account in one.stages.items():
            if stage != READ:
                reasons.update({f"{stage}: {reason}": count for reason, count in account.reasons.items()})
    told = ", ".join(f"{count:,} by {reason}" for reason, count in reasons.most_common(5))
    total = sum(one.stages[READ].after.documents for one in found)
    return f"data.extractor, data.filters and data.deduplicators leave none of {total:,} documents ({told}); loosen what removes the most"


def _why_none(read: Documents) -> str:
    """What became of the records of a source of which none is a document."""
    if read.broken:
        return f": all that it has is broken, first {read.first_broken}"
    reasons = read.stages[READ].reasons.most_common()
    return ": left out were " + ", ".join(f"{count} ({reason})" for reason, count in reasons) if reasons else ""
