"""Laws of deduplicators. They need numpy, and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution
from llmkit.core.interfaces.source import Document
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.corpus import documents, unrelated
from llmkit.testing.subject import Subject


def a_sketch_is_of_one_document(subject: Subject) -> None:
    """A sketch is a row of uint64, the same for a document alone, among others, and of another copy; its id is no part of it."""
    made, some = _made(subject), documents()
    together = made.sketch(some)
    if len(together) != len(some):
        raise LawBroken(f"sketch gives {len(together)} rows for {len(some)} documents")
    other = _made(subject)
    for document, row in zip(some, together, strict=True):
        if not isinstance(row, np.ndarray) or row.dtype != np.uint64 or row.ndim != 1:
            raise LawBroken(f"the sketch of {document.id} is {row!r}, no row of uint64")
        if not np.array_equal(row, other.sketch([replace(document, id="another")])[0]):
            raise LawBroken(f"{document.id} alone, by another copy and under another id, has another sketch")


def a_copy_goes_and_one_stays(subject: Subject) -> None:
    """Of two documents with the same text one stays whole, and nothing of the other does."""
    one, other = unrelated(2)
    copies = [one, other, replace(one, id="copy")]
    made = _made(subject)
    resolution = _resolved(made, copies)
    left = [_left(made, resolution, copies, index) for index in (0, 2)]
    if sorted(len(text) for text in left) != [0, len(one.text)]:
        raise LawBroken(f"of a text of {len(one.text)} characters that is there twice, {[len(text) for text in left]} characters stay")
    if _left(made, resolution, copies, 1) != other.text:
        raise LawBroken("the document between the two copies is cut or gone")


def what_has_nothing_in_common_stays(subject: Subject) -> None:
    """Documents without a word in common all stay, whole; so does a single one, and no document is no error."""
    made = _made(subject)
    for some in (unrelated(20), unrelated(1), []):
        resolution = _resolved(made, some)
        for index, document in enumerate(some):
            if _left(made, resolution, some, index) != document.text:
                raise LawBroken(f"{document.id} of {len(some)} documents without a word in common is cut or gone")


def a_keeper_stays(subject: Subject) -> None:
    """Every document has a keeper, which is its own; what is cut are numbers of units, ascending, of documents that stay."""
    made, some = _made(subject), [*documents(), *(replace(document, id=f"{document.id}-again") for document in documents())]
    resolution = _resolved(made, some)
    keeper = resolution.keeper
    if keeper.shape != (len(some),) or not np.issubdtype(keeper.dtype, np.integer):
        raise LawBroken(f"keeper is an array of {keeper.dtype} of shape {keeper.shape}, for {len(some)} documents")
    if ((keeper < 0) | (keeper >= len(some))).any() or (keeper[keeper] != keeper).any():
        raise LawBroken(f"a keeper has another keeper, or is no document: {keeper.tolist()}")
    if resolution.cut is None:
        return
    if len(resolution.cut) != len(some):
        raise LawBroken(f"cut has {len(resolution.cut)} rows for {len(some)} documents")
    for index, document in enumerate(some):
        row = resolution.cut.row(index).astype(np.int64)
        if len(row) and (row[-1] >= len(made.units(document.text)) or (np.diff(row) <= 0).any()):
            raise LawBroken(f"the units {row.tolist()} of {document.id} are to be cut, which has {len(made.units(document.text))}")


def units_together_are_the_text(subject: Subject) -> None:
    """The units of a text, joined, are the text."""
    made = _made(subject)
    for document in documents():
        if "".join(made.units(document.text)) != document.text:
            raise LawBroken(f"the units of {document.text[:60]!r} are {made.units(document.text)[:5]!r}")


def resolving_again_gives_the_same(subject: Subject) -> None:
    """The same sketches are resolved alike, also by another copy."""
    first, again = (_resolved(_made(subject), documents() * 2) for _ in range(2))
    if not np.array_equal(first.keeper, again.keeper):
        raise LawBroken(f"keepers are {first.keeper.tolist()}, then {again.keeper.tolist()}")


def theory_is_a_probability(subject: Subject) -> None:
    """Where there is a theory of what is found, it is a probability that rises with the similarity, and shingles are ascending."""
    made = _made(subject)
    rates = [made.match_rate(step / 20) for step in range(21)]
    known = [rate for rate in rates if rate is not None]
    if len(known) not in (0, len(rates)) or known != sorted(known) or any(not 0 <= rate <= 1 for rate in known):
        raise LawBroken(f"match_rate of 0, 0.05, ... 1 is {rates}")
    for document in documents():
        shingles = made.shingles(document.text)
        if (shingles is None) != (not known):
            raise LawBroken("there are shingles without a match_rate, or the other way about")
        if shingles is not None and (shingles[1:] <= shingles[:-1]).any():
            raise LawBroken(f"the shingles of {document.id} are not distinct and ascending")


def _made(subject: Subject) -> Deduplicator:
    made: Deduplicator = subject.make()
    return made


def _resolved(made: Deduplicator, some: Sequence[Document]) -> Resolution:
    rows = made.sketch(some) if some else []
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    values = np.concatenate(rows) if rows else np.empty(0, np.uint64)
    return made.resolve(Ragged(values, starts), np.array([len(document.text.encode()) for document in some], np.int64))


def _left(made: Deduplicator, resolution: Resolution, some: Sequence[Document], index: int) -> str:
    if resolution.keeper[index] != index:
        return ""
    if resolution.cut is None:
        return some[index].text
    gone = set(resolution.cut.row(index).tolist())
    return "".join(unit for number, unit in enumerate(made.units(some[index].text)) if number not in gone)


LAWS = (
    Law(a_sketch_is_of_one_document),
    Law(a_copy_goes_and_one_stays),
    Law(what_has_nothing_in_common_stays),
    Law(a_keeper_stays),
    Law(units_together_are_the_text),
    Law(resolving_again_gives_the_same),
    Law(theory_is_a_probability),
)
