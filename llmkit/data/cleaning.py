"""The stages `extract` and `filters.<name>`: text of pages, and which documents stay. One pass over a shard does them all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmkit.core.component import Chosen
from llmkit.core.interfaces.extractor import Extractor
from llmkit.core.interfaces.filter import Drop, Filter
from llmkit.core.interfaces.source import HTML, PLAIN, Document
from llmkit.data.accounting import BLANK, Measured, ShardAccount, StageAccount, bin_of, rank_of, write_account
from llmkit.data.document_shards import ENDING, Row, ShardWriter, read_groups
from llmkit.data.reading import encodable
from llmkit.data.split import place_of
from llmkit.data.workers import Task

EXTRACT = "extract"
ADDRESS = "url"
"""Under which name of a document's `meta` an extractor finds the address of the page."""


@dataclass(frozen=True)
class FilterStage:
    """A filter of the spec.

    name     how the spec calls it
    learned  where what it has learned lies; None where it learns nothing
    """

    name: str
    chosen: Chosen
    learned: Path | None = None

    @property
    def stage(self) -> str:
        return f"filters.{self.name}"

    def make(self) -> Filter:
        """Ready to use."""
        made: Filter = self.chosen.make()
        if self.learned is not None:
            made.load(self.learned)
        return made


@dataclass(frozen=True)
class Cleaning:
    """Clean the shards of one source. A task is a shard, and leaves one of the same number.

    input      the shards, by the number of their task
    extractor  None where no page is among them
    measured   the part of the documents on which the sensitivity of thresholds is measured
    """

    input: tuple[Path, ...]
    extractor: Chosen | None
    filters: tuple[FilterStage, ...]
    measured: float

    def run(self, directory: Path, task: Task) -> None:
        extraction = _Extraction(self.extractor.make()) if self.extractor is not None else None
        chain = _Chain(self.filters, self.measured)
        with ShardWriter(directory / f"{task.name}.{ENDING}") as writer:
            for rows in read_groups(self.input[task.index]):
                for row in chain.passed(extraction.extracted(rows) if extraction is not None else rows):
                    writer.add(row)
        stages = chain.accounts()
        account = ShardAccount(documents=writer.n_documents, bytes=writer.n_bytes)
        if extraction is not None:
            stages = {EXTRACT: extraction.account} | stages
            account.lengths_read = extraction.lengths
        account.stages = {name: one.trimmed() for name, one in stages.items()}
        write_account(task.account(directory), account)


class _Extraction:
    """Text of the pages in a shard; everything else passes."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor, self.account = extractor, StageAccount()
        self.lengths: Counter[int] = Counter()

    def extracted(self, rows: Sequence[Row]) -> list[Row]:
        begun = time.process_time()
        kept = [row for row in map(self._row, rows) if row is not None]
        self.account.seconds += time.process_time() - begun
        return kept

    def _row(self, row: Row) -> Row | None:
        page = row.document
        self.account.before.count(len(page.text.encode()))
        if page.media_type == HTML:
            document = encodable(replace(page, text=self._extractor.extract(page.text, str(page.meta.get(ADDRESS, ""))), media_type=PLAIN))
            if not document.text.strip():
                self.account.drop(EXTRACT, page, Drop(BLANK))
                return None
            row = Row(document, place_of(document.text))
        size = len(row.document.text.encode())
        self.account.after.count(size)
        self.lengths[bin_of(size)] += 1
        return row


class _Passage:
    """A document on its way through the filters.

    row         as it goes on
    dropped_by  the number of the filter that dropped it; later ones are only asked what they would have done
    agreed      whether one of them would have dropped it as well
    """

    __slots__ = ("agreed", "dropped_by", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.dropped_by: int | None = None
        self.agreed = False


class _Chain:
    """The filters, one after another. Each sees also what an earlier one dropped, for the report of what only one of them catches."""

    def __init__(self, filters: Sequence[FilterStage], measured: float) -> None:
        self._stages = filters
        self._filters = [one.make() for one in filters]
        self._accounts = [StageAccount() for _ in filters]
        self._limits = [frozenset(limit.statistic for limit in one.limits()) for one in self._filters]
        self._below = int(measured * 2**64)

    def passed(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Those that stay, as they are now."""
        passages = [_Passage(row) for row in rows]
        for index in range(len(self._filters)):
            self._ask(index, passages)
        for passage in passages:
            if passage.dropped_by is None:
                yield passage.row
            elif not passage.agreed:
                self._accounts[passage.dropped_by].only += 1

    def accounts(self) -> dict[str, StageAccount]:
        """What each did so far."""
        return {one.stage: account for one, account in zip(self._stages, self._accounts, strict=True)}

    def _ask(self, index: int, passages: Sequence[_Passage]) -> None:
        begun = time.process_time()
        verdicts = self._filters[index].apply_batch([passage.row.document for passage in passages])
        for passage, verdict in zip(passages, verdicts, strict=True):
            if isinstance(verdict, Document) and verdict is not passage.row.document:
                verdict = encodable(verdict) if verdict.text.strip() else Drop(BLANK)
            if passage.dropped_by is None:
                self._judge(index, passage, verdict)
            elif isinstance(verdict, Drop):
                passage.agreed = True
                self._accounts[passage.dropped_by].shared[self._stages[index].name] += 1
            else:
                passage.row = passage.row._replace(document=verdict)
        self._accounts[index].seconds += time.process_time() - begun

    def _judge(self, index: int, passage: _Passage, verdict: Document | Drop) -> None:
        stage, account, document = self._stages[index].stage, self._accounts[index], passage.row.document
        account.before.count(len(document.text.encode()))
        self._measure(index, document)
        if isinstance(verdict, Drop):
            passage.dropped_by = index
            account.drop(stage, document, verdict)
            return
        if verdict.text != document.text:
            account.rewrite(stage, document, verdict.text)
        account.after.count(len(verdict.text.encode()))
        passage.row = passage.row._replace(document=verdict)

    def _measure(self, index: int, document: Document) -> None:
        if not self._limits[index]:
            return
        rank = rank_of(f"{self._stages[index].stage} measured", document.id)
        if rank >= self._below:
            return
        values = self._filters[index].measure(document)
        self._accounts[index].measured.append(
            Measured(rank=rank, values={name: float(values[name]) for name in sorted(self._limits[index]) if name in values})
        )
