"""Documents whose whole text is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution, Words
from llmkit.core.interfaces.source import Document
from llmkit.plugins.deduplicators.components import ExactParams

WORDS = 2
"""A sketch has 128 bits: among 10^12 documents, two that differ have the same one with a probability of 10^-15."""


class Exact(Deduplicator):
    """The first of the documents with one text stays. A sketch is the text's BLAKE2 hash, of 16 bytes."""

    params: ExactParams

    def sketch(self, documents: Sequence[Document]) -> list[Words]:
        return [self._hash(document.text) for document in documents]

    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        if not len(sketches):
            return Resolution(np.zeros(0, np.int64))
        rows = np.asarray(sketches.values).reshape(-1, WORDS)
        _, first, which = np.unique(rows.view([("high", "<u8"), ("low", "<u8")]), return_index=True, return_inverse=True)
        return Resolution(first[which.ravel()].astype(np.int64))

    def _hash(self, text: str) -> Words:
        if self.params.ignore_case:
            text = text.casefold()
        if self.params.ignore_whitespace:
            text = " ".join(text.split())
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8 * WORDS).digest()
        return np.frombuffer(digest, "<u8")
