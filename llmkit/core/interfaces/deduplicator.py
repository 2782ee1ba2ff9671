"""Deduplicators: which documents, or parts of them, are there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.source import Document

Words = NDArray[np.uint64]


def nothing_to_release() -> None:
    """What lies in memory stays there."""


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[starts[i] : starts[i + 1]]`. Both may be maps of files.

    values   (n,) uint64, the rows one after another
    starts   (rows + 1,) int64, where each begins
    release  lets go of the memory of what was read of a mapped file, which is read again where it is asked for again: to be called now
             and then by whoever goes through all rows, so that the file does not lie in memory whole
    """

    values: Words
    starts: NDArray[np.int64]
    release: Callable[[], None] = nothing_to_release

    def row(self, index: int) -> Words:
        """One of them."""
        return self.values[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1


class Resolution(NamedTuple):
    """What is to be done with each of N documents.

    keeper  (N,) int64: the document that stays in its place; a document that stays is its own
    cut     for each document the numbers of its units (`units`) that go, ascending; None where only whole documents go
    """

    keeper: NDArray[np.int64]
    cut: Ragged | None = None


class Deduplicator:
    """Finds what is there twice, in three steps, of which the first and the last run in any number of processes.

    `sketch` makes of each document some numbers that stand for it; `resolve` sees the numbers of all documents, and never a text;
    whoever calls then leaves out what has another keeper, and cuts units. Built with `(params)`; numpy, no torch.

    A whole one, with the component that its plugin's hook returns:

        class SameStartParams(Params):
            characters: int = Field(100, ge=1, description="two documents that begin with as many equal characters are one")

        class SameStart(Deduplicator):
            def sketch(self, documents):
                starts = (document.text[: self.params.characters].encode() for document in documents)
                return [np.frombuffer(hashlib.sha256(start).digest()[:8], "<u8") for start in starts]

            def resolve(self, sketches, sizes):
                _, first, which = np.unique(sketches.values, return_index=True, return_inverse=True)
                return Resolution(first[which])

        Component(Kind.deduplicator, "acme.same_start", SameStartParams, "llmkit_acme.same_start:SameStart", "documents that begin alike")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def sketch(self, documents: Sequence[Document]) -> list[Words]:
        """For each document a row of uint64, of any length: a function of the document alone."""
        raise NotImplementedError

    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        """What goes, of N documents in their order. Their order is part of the input: the first copy is the one that comes first.

        sketches  a row a document
        sizes     (N,) their lengths in bytes, for a choice of which copy stays

        A keeper is its own keeper. Memory grows with N and the sketches that it must hold, never with the text.
        """
        raise NotImplementedError

    def units(self, text: str) -> list[str]:
        """The parts that a cut counts, which joined are the text: paragraphs, lines. The whole text unless written."""
        return [text]

    def shingles(self, text: str) -> Words | None:
        """The distinct hashed pieces whose Jaccard similarity the sketch estimates, ascending; None where it estimates none."""
        return None

    def sample_key(self, sketch: Words) -> int | None:
        """A number below 2^64 that two documents share with the probability of their similarity, found or not; None where there is none.

        Recall is measured on the documents with the least of them: in a sample drawn document by document, one in a hundred, there
        would be one pair in ten thousand.
        """
        return None

    def match_rate(self, similarity: float) -> float | None:
        """How probable it is by theory that two documents of this Jaccard similarity are found; None where there is no theory."""
        return None
