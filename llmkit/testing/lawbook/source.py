"""Laws of sources. Plain Python: no torch."""

from __future__ import annotations

import json
from itertools import islice

from llmkit.core.interfaces.source import Broken, Document
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

AT_MOST = 2000
"""Documents that a law reads of one shard: a source may be endless."""


def documents_come_in_the_same_order(subject: Subject) -> None:
    """Read twice, also by another copy, the documents are the same in the same order."""
    first = _documents(subject, 0, 1)
    for index, (one, two) in enumerate(zip(first, _documents(subject, 0, 1), strict=True)):
        if one != two:
            raise LawBroken(f"read again, document {index} is {two.id!r}, not {one.id!r}, or has another text")


def documents_have_text_and_their_own_id(subject: Subject) -> None:
    """There are documents, each a `Document` with an id of its own, text, and meta that JSON can hold."""
    seen: set[str] = set()
    documents = _documents(subject, 0, 1)
    if not documents:
        raise LawBroken("there is no document")
    for index, document in enumerate(documents):
        if not isinstance(document, Document) or not isinstance(document.text, str):
            raise LawBroken(f"document {index} is {document!r}")
        if document.id in seen:
            raise LawBroken(f"document {index} has the id {document.id!r}, which an earlier one has")
        seen.add(document.id)
        json.dumps(document.meta)


def shards_together_are_the_whole(subject: Subject) -> None:
    """The shards together hold every document of the whole exactly once."""
    whole = _documents(subject, 0, 1)
    if len(whole) == AT_MOST:
        return
    for of in sorted({2, subject.make().shards()} - {1}):
        ids = [document.id for shard in range(of) for document in _documents(subject, shard, of)]
        if sorted(ids) != sorted(document.id for document in whole):
            raise LawBroken(f"{of} shards together have {len(ids)} documents, the whole has {len(whole)}, or others are in them")


def fingerprint_stays_where_nothing_changed(subject: Subject) -> None:
    """Asked twice, also of another copy, the fingerprint is the same: prepared data is found again."""
    if subject.make().fingerprint() != subject.make().fingerprint():
        raise LawBroken("two copies with the same parameters have different fingerprints")


def _documents(subject: Subject, shard: int, of: int) -> list[Document]:
    found = subject.make().documents(shard, of)
    return list(islice((document for document in found if not isinstance(document, Broken)), AT_MOST))


LAWS = (
    Law(documents_have_text_and_their_own_id),
    Law(documents_come_in_the_same_order),
    Law(shards_together_are_the_whole),
    Law(fingerprint_stays_where_nothing_changed),
)
