"""The stages `deduplicators.<name>`: sketches of every shard beside each other, one look at all sketches, and then the shards again.

Whatever is kept for all documents at once is a map of a file, but for some numbers a document.
"""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmkit.core.component import Chosen
from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.data.accounting import BLANK, Account, ShardAccount, StageAccount, rank_of, write_account
from llmkit.data.audit import audit
from llmkit.data.cache import flush
from llmkit.data.document_shards import ENDING, Row, ShardWriter, read_groups
from llmkit.data.durable import draft_of, write_flushed
from llmkit.data.funnel import Audit
from llmkit.data.workers import Task

DUPLICATE = "duplicate"
LARGEST = 20
"""How many of the largest clusters are named."""

MEMBERS = 10
"""And how many documents of each."""

SAMPLED_BYTES = 32 << 20
"""Bytes of the documents that a deduplicator is measured on, at most. Measuring holds about ten times as many."""

FILES = ("sketches", "lengths", "sizes", "ids")
COPIED = 1 << 24


@dataclass(frozen=True)
class Sketching:
    """Sketch the documents of each shard."""

    input: tuple[Path, ...]
    deduplicator: Chosen

    def run(self, directory: Path, task: Task) -> None:
        made: Deduplicator = self.deduplicator.make()
        lengths: list[int] = []
        sizes: list[int] = []
        begun = time.process_time()
        drafts = {name: draft_of(_file(directory, task.name, name)) for name in FILES}
        with drafts["sketches"].open("wb") as values, drafts["ids"].open("wb") as ids:
            for rows in read_groups(self.input[task.index]):
                documents = [row.document for row in rows]
                for row in made.sketch(documents):
                    values.write(np.ascontiguousarray(row, "<u8").tobytes())
                    lengths.append(len(row))
                sizes += [len(document.text.encode()) for document in documents]
                ids.writelines(document.id.replace("\n", " ").encode() + b"\n" for document in documents)
        _write(drafts["lengths"], np.array(lengths, "<i8"))
        _write(drafts["sizes"], np.array(sizes, "<i8"))
        for name, draft in drafts.items():
            flush(draft)
            draft.replace(_file(directory, task.name, name))
        account = StageAccount(seconds=time.process_time() - begun)
        write_account(task.account(directory), account)


class Found(Account):
    """What a deduplicator found, but for the documents themselves: as `funnel.Clusters`."""

    documents: int
    sizes: Counter[int] = Field(default_factory=Counter)
    largest: list[list[str]] = Field(default_factory=list)
    seconds: float = 0.0


def resolve(deduplicator: Chosen, sketches: Path, shards: int, directory: Path) -> Found:
    """Look at all sketches at once; leave what is to be done with each document in the directory."""
    begun = time.process_time()
    lengths, sizes = (_numbers(sketches, shards, name) for name in ("lengths", "sizes"))
    values = directory / "sketches.part"
    _concatenated([_file(sketches, f"{shard:05d}", "sketches") for shard in range(shards)], values)
    ragged = _mapped(values, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))
    found: Resolution = deduplicator.make().resolve(ragged, sizes)
    del ragged
    values.unlink()
    _save(directory, found, len(sizes))
    clusters = Found(documents=len(sizes), **_clusters(found.keeper, sketches, shards))
    clusters.seconds = time.process_time() - begun
    return clusters


@dataclass(frozen=True)
class Cutting:
    """Leave out of each shard what was found.

    first  the number of each shard's first document, counted over all
    found  where `resolve` left it
    """

    name: str
    input: tuple[Path, ...]
    deduplicator: Chosen
    first: tuple[int, ...]
    found: Path
    sketches: Path

    @property
    def stage(self) -> str:
        return f"deduplicators.{self.name}"

    def run(self, directory: Path, task: Task) -> None:
        made: Deduplicator = self.deduplicator.make()
        resolution = load_resolution(self.found)
        account, begun = StageAccount(), time.process_time()
        number = self.first[task.index]
        with ShardWriter(directory / f"{task.name}.{ENDING}") as writer:
            for rows in read_groups(self.input[task.index]):
                for row in rows:
                    kept = self._kept(made, resolution, number, row, account)
                    number += 1
                    if kept is not None:
                        account.after.count(writer.add(kept))
        account.seconds = time.process_time() - begun
        left = ShardAccount(documents=writer.n_documents, bytes=writer.n_bytes, stages={self.stage: self._named(account.trimmed())})
        write_account(task.account(directory), left)

    def _kept(self, made: Deduplicator, resolution: Resolution, number: int, row: Row, account: StageAccount) -> Row | None:
        document = row.document
        account.before.count(len(document.text.encode()))
        keeper = int(resolution.keeper[number])
        if keeper != number:
            account.drop(self.stage, document, Drop(DUPLICATE), keeper=str(keeper))
            return None
        gone = resolution.cut.row(number) if resolution.cut is not None else ()
        if not len(gone):
            return row
        left = _without(made, document, gone)
        if not left.text.strip():
            account.drop(self.stage, document, Drop(BLANK))
            return None
        account.rewrite(self.stage, document, left.text)
        return row._replace(document=left)

    def _named(self, account: StageAccount) -> StageAccount:
        """With the names of the copies that stay instead of their numbers: looked up for the samples alone."""
        ids = _Ids(self.sketches, self.first)
        for one in account.samples:
            if one.sample.keeper is not None:
                one.sample = one.sample.model_copy(update={"keeper": ids.name_of(int(one.sample.keeper))})
        return account


def load_resolution(directory: Path) -> Resolution:
    """What `resolve` has left, as maps of its files."""
    keeper = _map(directory / "keeper.bin", "<i8")
    if not (directory / "cut.bin").exists():
        return Resolution(keeper)
    return Resolution(keeper, Ragged(_map(directory / "cut.bin", "<u8").view(np.uint64), _map(directory / "cut.starts.bin", "<i8")))


def audited(made: Deduplicator, texts: Sequence[str]) -> Audit | None:
    """These texts, deduplicated by themselves, held against exact Jaccard similarity; None of no text, or where none is estimated."""
    if not texts:
        return None
    rows = made.sketch([Document(str(number), text) for number, text in enumerate(texts)])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    return audit(made, texts, made.resolve(Ragged(np.concatenate(rows), starts), sizes).keeper)


def sampled_texts(made: Deduplicator, input: Sequence[Path], sketches: Path, most: int) -> list[str]:
    """The texts of a sample of documents, in their order: those with the smallest `sample_key`, so that pairs are in it.

    No more than so many documents, and as many of them as hold `SAMPLED_BYTES`.
    """
    keys = np.fromiter(_sample_keys(made, sketches, len(input)), np.uint64)
    order = np.argsort(keys, kind="stable")[:most]
    bytes_so_far = np.cumsum(_numbers(sketches, len(input), "sizes")[order])
    chosen = set(order[bytes_so_far <= SAMPLED_BYTES].tolist())
    return [document.text for number, document in enumerate(_documents(input)) if number in chosen]


def _sample_keys(made: Deduplicator, sketches: Path, shards: int) -> Iterator[int]:
    number = 0
    for shard in range(shards):
        values = _map(_file(sketches, f"{shard:05d}", "sketches"), "<u8").view(np.uint64)
        ends = np.cumsum(np.fromfile(_file(sketches, f"{shard:05d}", "lengths"), "<i8")).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            key = made.sample_key(values[start:end])
            yield rank_of("audit", str(number)) if key is None else key
            number += 1


def _documents(input: Sequence[Path]) -> Iterator[Document]:
    for path in input:
        for rows in read_groups(path):
            yield from (row.document for row in rows)


def _without(made: Deduplicator, document: Document, gone: Sequence[int] | NDArray[np.uint64]) -> Document:
    numbers = {int(unit) for unit in gone}
    return replace(document, text="".join(unit for place, unit in enumerate(made.units(document.text)) if place not in numbers))


def _clusters(keeper: NDArray[np.int64], sketches: Path, shards: int) -> dict[str, object]:
    keepers, sizes = np.unique(keeper, return_counts=True)
    several = sizes > 1
    keepers, sizes = keepers[several], sizes[several]
    largest = keepers[np.lexsort((keepers, -sizes))[:LARGEST]]
    ids = _Ids(sketches, tuple(accumulate(_counts(sketches, shards), initial=0))[:-1])
    members = [[int(one), *(int(other) for other in np.flatnonzero(keeper == one)[:MEMBERS] if other != one)][:MEMBERS] for one in largest]
    counted = Counter({int(size): int(count) for size, count in zip(*np.unique(sizes, return_counts=True), strict=True)})
    return {"sizes": counted, "largest": [[ids.name_of(number) for number in group] for group in members]}


class _Ids:
    """Names of documents by their number, over all shards; of one shard at a time they are held."""

    def __init__(self, directory: Path, first: Sequence[int]) -> None:
        self._directory, self._first = directory, np.array(first, np.int64)
        self._held: dict[int, list[bytes]] = {}

    def name_of(self, number: int) -> str:
        # The last of the shards that begin at or before it: one without documents begins where the next one does.
        shard = int(np.searchsorted(self._first, number, side="right")) - 1
        if shard not in self._held:
            self._held = {shard: _file(self._directory, f"{shard:05d}", "ids").read_bytes().split(b"\n")}
        return self._held[shard][number - int(self._first[shard])].decode()


def _save(directory: Path, found: Resolution, documents: int) -> None:
    if len(found.keeper) != documents or not np.array_equal(found.keeper[found.keeper], found.keeper):
        raise ValueError("a deduplicator's keepers are not their own keepers, or not as many as there are documents")
    _write(directory / "keeper.bin", found.keeper.astype("<i8", copy=False))
    if found.cut is not None:
        _write(directory / "cut.bin", found.cut.values.astype("<u8", copy=False))
        _write(directory / "cut.starts.bin", found.cut.starts.astype("<i8", copy=False))


def _write(path: Path, numbers: NDArray[Any]) -> None:
    # Not `tofile`: on a full disk it writes a part in silence, or raises an error that does not say so.
    write_flushed(path, [np.ascontiguousarray(numbers).view(np.uint8).data])


def _counts(sketches: Path, shards: int) -> list[int]:
    return [_file(sketches, f"{shard:05d}", "sizes").stat().st_size // 8 for shard in range(shards)]


def _numbers(directory: Path, shards: int, name: str) -> NDArray[np.int64]:
    found = [np.fromfile(_file(directory, f"{shard:05d}", name), "<i8") for shard in range(shards)]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _concatenated(paths: Sequence[Path], target: Path) -> None:
    with target.open("wb") as file:
        for path in paths:
            with path.open("rb") as piece:
                while block := piece.read(COPIED):
                    file.write(block)


def _map(path: Path, dtype: str) -> NDArray[np.int64]:
    if not path.stat().st_size:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, dtype, mode="r"))


def _mapped(path: Path, starts: NDArray[np.int64]) -> Ragged:
    """Rows in a file: memory holds what was read of them until it is released."""
    if not path.stat().st_size:
        return Ragged(np.empty(0, np.uint64), starts)
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Ragged(np.frombuffer(pages, "<u8"), starts, lambda: pages.madvise(mmap.MADV_DONTNEED))


def _file(directory: Path, name: str, what: str) -> Path:
    return directory / f"{name}.{what}"
