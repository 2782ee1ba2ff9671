"""The stage `tokenize`: from shards of documents to shards of tokens, each side of the split into its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from llmkit.core.component import Chosen
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.data.accounting import Account, bin_of, write_account
from llmkit.data.cache import flush
from llmkit.data.document_shards import Row, read_groups
from llmkit.data.durable import draft_of
from llmkit.data.split import is_held_out
from llmkit.data.tokens import TokenWriter, shard_name
from llmkit.data.workers import Task

SIDES = ("train", "validation")
LANGUAGE = "language"
"""Under which name of a document's `meta` a filter leaves its language."""

BATCH_CHARACTERS = 1 << 20


class Side(Account):
    """Of the documents of one shard those on one side."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    lengths: Counter[int] = Field(default_factory=Counter)
    languages: Counter[str] = Field(default_factory=Counter)


class EncodedAccount(Account):
    """What became of one shard: each side of it."""

    sides: dict[str, Side]
    seconds: float = 0.0


@dataclass(frozen=True)
class Piece:
    """A shard of documents, and the shards of tokens that are made of it.

    shards    number of the shard of tokens on each side that there is
    fraction  of the documents that is held out, where it has both sides
    """

    path: Path
    shards: tuple[tuple[str, int], ...]
    fraction: float

    def side_of(self, row: Row) -> str:
        """On which side a document is."""
        if len(self.shards) == 1:
            return self.shards[0][0]
        return SIDES[is_held_out(row.place, self.fraction)]


@dataclass(frozen=True)
class Encoding:
    """Encode the pieces; a task is one of them."""

    pieces: tuple[Piece, ...]
    tokenizer: Chosen
    directory: Path

    @cached_property
    def _loaded(self) -> Tokenizer:
        kind: type[Tokenizer] = self.tokenizer.component.resolve()
        return kind.load(self.tokenizer.params, self.directory)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process, which loads the tokenizer once for all its tasks."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def run(self, directory: Path, task: Task) -> None:
        tokenizer = self._loaded
        piece, begun = self.pieces[task.index], time.process_time()
        account = EncodedAccount(sides={name: Side() for name, _ in piece.shards})
        with ExitStack() as stack:
            writers = {name: stack.enter_context(_writer(directory, tokenizer, name, shard)) for name, shard in piece.shards}
            text = stack.enter_context(_HeldOutText(directory, dict(piece.shards).get("validation")))
            for rows in _batches(piece.path):
                for row, ids in zip(rows, tokenizer.encode_arrays([row.document.text for row in rows]), strict=True):
                    side, size = piece.side_of(row), len(row.document.text.encode())
                    writers[side].add(row.document.id, ids, size)
                    _count(account.sides[side], row.document, size, len(ids) + 1)
                    if side == "validation":
                        text.add(row.document)
        account.seconds = time.process_time() - begun
        write_account(task.account(directory), account)


def _writer(directory: Path, tokenizer: Tokenizer, name: str, shard: int) -> TokenWriter:
    facts = {"eos_id": tokenizer.eos_id, "vocab_size": tokenizer.vocab_size}
    return TokenWriter(directory, name, tokenizer=tokenizer.fingerprint(), shard=shard, **facts)


class _HeldOutText:
    """The validation documents of a shard, as they were when their tokens were made; complete or absent."""

    def __init__(self, directory: Path, shard: int | None) -> None:
        self._path = held_out_text(directory, shard) if shard is not None else None
        self._file = draft_of(self._path).open("w", encoding="utf-8") if self._path is not None else None

    def add(self, document: Document) -> None:
        if self._file is not None:
            self._file.write(json.dumps(asdict(document), default=str) + "\n")

    def __enter__(self) -> _HeldOutText:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._file is None or self._path is None:
            return
        self._file.close()
        if error is None:
            flush(draft_of(self._path))
            draft_of(self._path).replace(self._path)
        else:
            draft_of(self._path).unlink(missing_ok=True)


def held_out_text(directory: Path, shard: int) -> Path:
    """Where the text of a shard of validation tokens lies."""
    return directory / f"{shard_name('validation', shard)}.jsonl"


def held_out_documents(directory: Path) -> Iterator[Document]:
    """The validation documents of prepared tokens, in the order of the tokens."""
    shard = 0
    while (path := held_out_text(directory, shard)).exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield Document(**json.loads(line))
        shard += 1


def _batches(path: Path) -> Iterator[Sequence[Row]]:
    """Documents in groups of about a million characters: enough to keep all cores busy, little enough to hold."""
    group: list[Row] = []
    characters = 0
    for rows in read_groups(path):
        for row in rows:
            group.append(row)
            characters += len(row.document.text)
            if characters >= BATCH_CHARACTERS:
                yield group
                group, characters = [], 0
    if group:
        yield group


def _count(side: Side, document: Document, size: int, tokens: int) -> None:
    side.documents += 1
    side.bytes += size
    side.tokens += tokens
    side.lengths[bin_of(size)] += 1
    language = document.meta.get(LANGUAGE)
    if language:
        side.languages[str(language)] += 1
