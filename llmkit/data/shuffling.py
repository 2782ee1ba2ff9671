"""Documents in a random order: token files written once more, document by document, each source's among themselves.

Two that were neighbours in their source are then packed together no more often than any others. The order is computed and the documents
are read where they lie, so memory does not grow with the text, and any number of processes writes the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.data.accounting import Account, write_account
from llmkit.data.order import shuffled_documents
from llmkit.data.tokens import TokenFile, TokenWriter
from llmkit.data.workers import Task

SHARD_TOKENS = 1 << 23
"""Tokens of a shard, about: as many as a shard of documents has."""

BYTES_A_TOKEN = 4
"""For an estimate of how much there is to do."""

DOCUMENTS = 1 << 12
"""How many places of the order are looked up at a time."""


@dataclass(frozen=True)
class Part:
    """A shard to be written: places `[start, end)` of the order of a source, whose documents are `[first, first + documents)`."""

    source: str
    first: int
    documents: int
    start: int
    end: int


class ShuffledAccount(Account):
    """One shard was written."""

    documents: int


def parts_of(tokens: TokenFile) -> tuple[tuple[Part, ...], list[Task]]:
    """The shards to be written, and a task for each."""
    parts: list[Part] = []
    tasks: list[Task] = []
    first = 0
    for one in tokens.sources:
        count = max(-(-(one.end - one.start) // SHARD_TOKENS), 1)
        bounds = [one.documents * index // count for index in range(count + 1)]
        for start, end in pairwise(bounds):
            tasks.append(Task(len(parts), BYTES_A_TOKEN * (one.end - one.start) // count))
            parts.append(Part(one.source, first, one.documents, start, end))
        first += one.documents
    return tuple(parts), tasks


@dataclass(frozen=True)
class Shuffling:
    """Write the parts of a token file; a task is one of them."""

    tokens: Path
    name: str
    parts: tuple[Part, ...]

    def run(self, directory: Path, task: Task) -> None:
        file, part = TokenFile(self.tokens, self.name), self.parts[task.index]
        facts: dict[str, Any] = {"vocab_size": file.vocab_size, "eos_id": file.eos_id, "tokenizer": file.tokenizer}
        names = _Names(file)
        with TokenWriter(directory, self.name, shard=task.index, **facts) as writer:
            for index in _order(part):
                writer.add(names[index], file.document(index), file.document_bytes(index))
        write_account(task.account(directory), ShuffledAccount(documents=writer.n_documents))


def _order(part: Part) -> Iterator[int]:
    for start in range(part.start, part.end, DOCUMENTS):
        places = np.arange(start, min(start + DOCUMENTS, part.end))
        yield from (part.first + shuffled_documents(places, part.documents, part.source)).tolist()


class _Names:
    """The ids of documents in any order: eight bytes each are held, and the names stay on the disk."""

    def __init__(self, file: TokenFile) -> None:
        self._file = file
        self._opened: dict[int, tuple[mmap, NDArray[np.int64]]] = {}

    def __getitem__(self, document: int) -> str:
        shard, place = self._file.place(document)
        if shard not in self._opened:
            self._opened[shard] = self._open(self._file.shard_path(shard, "ids.jsonl"))
        lines, ends = self._opened[shard]
        return str(json.loads(lines[int(ends[place - 1]) if place else 0 : int(ends[place])]))

    def _open(self, path: Path) -> tuple[mmap, NDArray[np.int64]]:
        with path.open("rb") as file:
            lines = mmap(file.fileno(), 0, access=ACCESS_READ)
        return lines, np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1
