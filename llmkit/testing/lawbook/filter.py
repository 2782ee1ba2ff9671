"""Laws of filters. Plain Python: no torch."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from llmkit.core.interfaces.filter import Drop, Filter
from llmkit.core.interfaces.source import Document
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.corpus import documents
from llmkit.testing.subject import Subject

LONGEST_REASON = 200
REFERENCES = (Document("law/reference", "What is the capital of the country whose keeper had two goats? Nobody knows.", "law"),)


def every_document_meets_a_fate(subject: Subject) -> None:
    """For every text, however odd, the answer is a document with the id and the source that it had, or a `Drop`."""
    made = _ready(subject)
    for document in documents():
        fate = made.apply(document)
        if isinstance(fate, Drop):
            continue
        if not isinstance(fate, Document) or not isinstance(fate.text, str):
            raise LawBroken(f"apply({_shown(document)}) is {fate!r}")
        if (fate.id, fate.source) != (document.id, document.source):
            raise LawBroken(f"apply({_shown(document)}) has the id {fate.id!r} and the source {fate.source!r}")


def the_same_document_meets_the_same_fate(subject: Subject) -> None:
    """Asked twice, in another order, and of another copy, the answer is the same: any number of processes may filter."""
    made = _ready(subject)
    first = [made.apply(document) for document in documents()]
    again = [made.apply(document) for document in reversed(documents())][::-1]
    with tempfile.TemporaryDirectory() as directory:
        other = _ready(subject, Path(directory))
        elsewhere = [other.apply(document) for document in documents()]
    for document, one, two, three in zip(documents(), first, again, elsewhere, strict=True):
        if not one == two == three:
            raise LawBroken(f"apply({_shown(document)}) is {one!r}, then {two!r}, of another copy {three!r}")


def a_batch_is_each_document_by_itself(subject: Subject) -> None:
    """`apply_batch` gives what `apply` gives for each, in order; nothing for no document."""
    made = _ready(subject)
    together = made.apply_batch(documents())
    if len(together) != len(documents()):
        raise LawBroken(f"apply_batch gives {len(together)} answers for {len(documents())} documents")
    for document, fate in zip(documents(), together, strict=True):
        alone = made.apply(document)
        if fate != alone:
            raise LawBroken(f"{_shown(document)} in a batch is {fate!r}, alone {alone!r}")
    if list(made.apply_batch([])):
        raise LawBroken("apply_batch([]) is not empty")


def a_drop_says_why(subject: Subject) -> None:
    """A reason is one short line, and the value and the limit, where they are given, are finite numbers."""
    made = _ready(subject)
    for document in documents():
        fate = made.apply(document)
        if not isinstance(fate, Drop):
            continue
        if not fate.reason.strip() or len(fate.reason) > LONGEST_REASON or len(fate.reason.splitlines()) != 1:
            raise LawBroken(f"{_shown(document)} is dropped for the reason {fate.reason!r}")
        if any(number is not None and not math.isfinite(number) for number in (fate.value, fate.limit)):
            raise LawBroken(f"{_shown(document)} is dropped for {fate.reason!r} with value {fate.value} against {fate.limit}")


def limits_are_those_that_decide(subject: Subject) -> None:
    """Every limit's statistic is measured, a finite number, and a document that stays keeps within all limits."""
    made = _ready(subject)
    limits = made.limits()
    for document in documents():
        measured = made.measure(document)
        fate = made.apply(document)
        for limit in limits:
            value = measured.get(limit.statistic)
            if value is None or not math.isfinite(value):
                raise LawBroken(f"limit {limit.parameter!r} is on {limit.statistic!r}, which is {value} for {_shown(document)}")
            outside = (limit.least is not None and value < limit.least) or (limit.most is not None and value > limit.most)
            if outside and not isinstance(fate, Drop) and fate.text == document.text:
                raise LawBroken(f"{_shown(document)} stays with {limit.statistic} {value}, outside of limit {limit.parameter!r}")


def fingerprint_stays_where_nothing_changed(subject: Subject) -> None:
    """Asked twice, also of another copy, the fingerprint is the same: what was filtered is found again."""
    if subject.make().fingerprint() != subject.make().fingerprint():
        raise LawBroken("two copies with the same parameters have different fingerprints")


def _ready(subject: Subject, directory: Path | None = None) -> Filter:
    made: Filter = subject.make()
    if not made.learns:
        return made
    if directory is None:
        with tempfile.TemporaryDirectory() as place:
            return _ready(subject, Path(place))
    made.learn(directory, REFERENCES)
    taken_up: Filter = subject.make()
    taken_up.load(directory)
    return taken_up


def _shown(document: Document) -> str:
    text = document.text if len(document.text) <= 60 else f"{document.text[:60]}..."
    return f"{document.id} ({text!r})"


LAWS = (
    Law(every_document_meets_a_fate),
    Law(the_same_document_meets_the_same_fate),
    Law(a_batch_is_each_document_by_itself),
    Law(a_drop_says_why),
    Law(limits_are_those_that_decide),
    Law(fingerprint_stays_where_nothing_changed),
)
