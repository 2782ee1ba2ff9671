"""The stage `read`: from a source to shards of documents. What is no document is counted and kept aside."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydantic import Field

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import HTML, Broken, Document, Skipped, Source
from llmkit.data.accounting import BLANK, Account, StageAccount, Tally, bin_of, write_account
from llmkit.data.document_shards import ENDING, SHARD_BYTES, Row, ShardWriter
from llmkit.data.durable import write_whole
from llmkit.data.split import place_of
from llmkit.data.workers import Task

MOST_TASKS = 256
"""Into how many tasks a source of many shards is put together, whatever the machine: thousands of small files are not as many shards."""

FIRST_BYTES = 512
"""How many bytes of a broken record are kept."""

BROKEN = "broken.jsonl"
READ = "read"


class PartAccount(Account):
    """What was read into one shard.

    name     of the shard
    records  all that the source yielded for it: documents, blank ones and broken ones
    pages    documents that are HTML
    broken   reason -> records that were no documents
    first    the first of these, for a message
    lengths  of the documents
    read     the stage's account
    """

    name: str
    records: int = 0
    pages: int = 0
    broken: Counter[str] = Field(default_factory=Counter)
    first: str = ""
    lengths: Counter[int] = Field(default_factory=Counter)
    read: StageAccount = Field(default_factory=StageAccount)


class ReadAccount(Account):
    """What a task has read: the shards that it made."""

    parts: list[PartAccount]


@dataclass(frozen=True)
class Reading:
    """Read a source. A task is a few of its shards, and makes as many shards of documents as there are bytes for.

    name    what the spec calls it where it names its sources: then every document's `source`
    strict  whether the first broken record ends it
    """

    source: Chosen
    name: str | None
    shards: int
    strict: bool

    @property
    def tasks(self) -> list[Task]:
        """The tasks of this source."""
        return [Task(index) for index in range(min(self.shards, MOST_TASKS))]

    def run(self, directory: Path, task: Task) -> None:
        parts = _finished(directory, task)
        records = _from(self._records(task), sum(part.records for part in parts))
        for record in records:
            part = self._part(chain([record], records), directory, f"{task.name}-{len(parts):05d}")
            parts.append(part)
            # A shard of documents is whole once its account is there: from here a killed run goes on.
            write_account(_part_account(directory, part.name), part)
        write_account(task.account(directory), ReadAccount(parts=parts))

    def _records(self, task: Task) -> Iterator[Document | Broken]:
        source: Source = self.source.make()
        count = len(self.tasks)
        first, end = (self.shards * index // count for index in (task.index, task.index + 1))
        return chain.from_iterable(source.documents(shard, self.shards) for shard in range(first, end))

    def _part(self, records: Iterator[Document | Broken], directory: Path, name: str) -> PartAccount:
        part, broken, begun = PartAccount(name=name), list[str](), time.process_time()
        with ShardWriter(directory / f"{name}.{ENDING}") as writer:
            for record in records:
                part.records += 1
                if isinstance(record, Skipped):
                    part.read.drop(READ, self._shown(record), Drop(record.reason))
                elif isinstance(record, Broken):
                    self._set_aside(record, part, broken)
                elif not record.text or record.text.isspace():
                    part.read.drop(READ, record, Drop(BLANK))
                else:
                    document = encodable(record if self.name is None else replace(record, source=self.name))
                    page = document.media_type == HTML
                    part.pages += page
                    part.lengths[bin_of(writer.add(Row(document, 0 if page else place_of(document.text))))] += 1
                if writer.n_bytes + len(broken) * FIRST_BYTES >= SHARD_BYTES:
                    break
        part.read.after = Tally(documents=writer.n_documents, bytes=writer.n_bytes)
        part.read.before = Tally(documents=part.records, bytes=writer.n_bytes)
        part.read.seconds = time.process_time() - begun
        part.read = part.read.trimmed()
        if broken:
            write_whole(directory / f"{name}.{BROKEN}", "".join(broken))
        return part

    def _set_aside(self, record: Broken, part: PartAccount, lines: list[str]) -> None:
        told = f"{record.id}: {record.reason}" + (f" ({record.detail})" if record.detail else "")
        if self.strict:
            raise UserError(f"source {self.name or self.source.type}: {told}; mend it, or leave --strict out to set such records aside")
        part.broken[record.reason] += 1
        part.read.drop(READ, self._shown(record), Drop(record.reason), "broken")
        part.first = part.first or _whole(told)
        raw = base64.b64encode(record.raw[:FIRST_BYTES]).decode()
        lines.append(json.dumps({"id": record.id, "reason": record.reason, "detail": record.detail, "raw": raw}) + "\n")

    def _shown(self, record: Broken) -> Document:
        """What a person sees of it in the report."""
        return Document(record.id, record.raw[:FIRST_BYTES].decode("utf-8", "replace"), self.name or self.source.type)


def encodable(document: Document) -> Document:
    """Half a UTF-16 pair, which no file can hold, becomes U+FFFD."""
    try:
        document.text.encode()
        f"{document.id}{document.source}{document.licence}".encode()
    except UnicodeEncodeError:
        return replace(
            document,
            id=_whole(document.id),
            text=_whole(document.text),
            source=_whole(document.source),
            licence=_whole(document.licence),
        )
    return document


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _finished(directory: Path, task: Task) -> list[PartAccount]:
    """The shards that an earlier run of this task has finished."""
    parts: list[PartAccount] = []
    while (path := _part_account(directory, f"{task.name}-{len(parts):05d}")).exists():
        parts.append(PartAccount.model_validate_json(path.read_text(encoding="utf-8")))
    return parts


def _part_account(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _from(records: Iterator[Document | Broken], skipped: int) -> Iterator[Document | Broken]:
    for _ in range(skipped):
        next(records, None)
    return records
