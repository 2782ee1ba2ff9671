"""What the stages did with each shard, written beside it, and how the accounts of many shards become one.

What is chosen from many documents is chosen by a hash of the document's own id, so that it does not depend on how many processes there were
or which of them came first: the smallest of the smallest are the smallest of all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.data.durable import write_whole
from llmkit.data.funnel import Removal, Sample

SAMPLES = 20
"""How many samples of what was removed are kept for a reason."""

SAMPLES_A_STAGE = 200
"""And how many for a stage whose reasons are many."""

MEASURED = 5_000
"""How many documents the sensitivity of a threshold is measured on."""

SHOWN = 1_500
"""Characters of a document that a sample shows."""

BLANK = "blank"
"""Why a document goes of which nothing but white space is left."""


class Account(BaseModel):
    """A part of the accounts: counted up while a shard is worked on."""

    model_config = ConfigDict(extra="forbid")


class Tally(Account):
    """Documents, and their bytes of UTF-8."""

    documents: int = 0
    bytes: int = 0

    def count(self, size: int) -> None:
        self.documents += 1
        self.bytes += size


class Ranked(Account):
    """A sample, and its place among all that could have been chosen."""

    rank: int
    sample: Sample


class Measured(Account):
    """A document's numbers, likewise."""

    rank: int
    values: dict[str, float]


class StageAccount(Account):
    """What one stage did with one shard; the fields are those of `funnel.Stage`."""

    before: Tally = Field(default_factory=Tally)
    after: Tally = Field(default_factory=Tally)
    removed: int = 0
    rewritten: int = 0
    reasons: Counter[str] = Field(default_factory=Counter)
    only: int = 0
    shared: Counter[str] = Field(default_factory=Counter)
    seconds: float = 0.0
    samples: list[Ranked] = Field(default_factory=list)
    measured: list[Measured] = Field(default_factory=list)

    def drop(self, stage: str, document: Document, verdict: Drop, removal: Removal = "dropped", keeper: str | None = None) -> None:
        """Count a document that goes, and keep it as a sample where it is among the chosen ones."""
        self.removed += 1
        self.reasons[verdict.reason] += 1
        self._keep(stage, removal, document, verdict, keeper=keeper)

    def rewrite(self, stage: str, document: Document, after: str) -> None:
        """Likewise one that stays with another text."""
        self.rewritten += 1
        self._keep(stage, "rewritten", document, Drop("rewritten"), after=after)

    def _keep(
        self, stage: str, removal: Removal, document: Document, verdict: Drop, *, after: str | None = None, keeper: str | None = None
    ) -> None:
        rank = rank_of(f"{stage} {verdict.reason}", document.id)
        text, then = _difference(document.text, after)
        sample = Sample(
            stage=stage,
            removal=removal,
            reason=verdict.reason,
            id=document.id,
            source=document.source,
            text=text,
            after=then,
            keeper=keeper,
            value=verdict.value,
            limit=verdict.limit,
        )
        self.samples.append(Ranked(rank=rank, sample=sample))
        if len(self.samples) > 4 * SAMPLES_A_STAGE:
            self.samples = chosen_samples(self.samples)

    def trimmed(self) -> StageAccount:
        """With no more samples than are kept."""
        return self.model_copy(update={"samples": chosen_samples(self.samples), "measured": _smallest(self.measured)})


class ShardAccount(Account):
    """What was done with a shard.

    documents, bytes  what is left in it
    stages            of each stage, in their order
    lengths_read      of the documents that came out of `extract`
    """

    documents: int = 0
    bytes: int = 0
    stages: dict[str, StageAccount] = Field(default_factory=dict)
    lengths_read: Counter[int] = Field(default_factory=Counter)


def rank_of(salt: str, name: str) -> int:
    """A number below 2^64, as good as drawn at random."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "replace"), digest_size=8).digest(), "big")


def bin_of(size: int) -> int:
    """The upper bound of the bin of a length: the power of two that it is not above."""
    return 1 << max(size - 1, 0).bit_length()


def merged(accounts: Iterable[StageAccount]) -> StageAccount:
    """One account of many."""
    whole = StageAccount()
    for one in accounts:
        for mine, its in ((whole.before, one.before), (whole.after, one.after)):
            mine.documents += its.documents
            mine.bytes += its.bytes
        whole.removed += one.removed
        whole.rewritten += one.rewritten
        whole.reasons.update(one.reasons)
        whole.only += one.only
        whole.shared.update(one.shared)
        whole.seconds += one.seconds
        whole.samples = chosen_samples([*whole.samples, *one.samples])
        whole.measured = _smallest([*whole.measured, *one.measured])
    return whole


def chosen_samples(samples: Sequence[Ranked]) -> list[Ranked]:
    """The first of each reason by their ranks, and of these the first."""
    by_reason: dict[tuple[str, str], list[Ranked]] = {}
    for one in samples:
        by_reason.setdefault((one.sample.removal, one.sample.reason), []).append(one)
    kept = [one for group in by_reason.values() for one in nsmallest(SAMPLES, group, key=_rank)]
    return nsmallest(SAMPLES_A_STAGE, kept, key=_rank)


def write_account(path: Path, account: Account) -> None:
    """Write an account; a shard whose account lies there is done."""
    write_whole(path, account.model_dump_json() + "\n")


def _rank(one: Ranked | Measured) -> tuple[int, str]:
    return one.rank, one.sample.id if isinstance(one, Ranked) else ""


def _smallest(measured: Sequence[Measured]) -> list[Measured]:
    return nsmallest(MEASURED, measured, key=_rank)


def _difference(before: str, after: str | None) -> tuple[str, str | None]:
    """The first characters of a text; of one that was rewritten, those around the first that changed."""
    if after is None:
        return before[:SHOWN], None
    same = next((place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), min(len(before), len(after)))
    start = max(0, same - SHOWN // 4)
    return before[start : start + SHOWN], after[start : start + SHOWN]
