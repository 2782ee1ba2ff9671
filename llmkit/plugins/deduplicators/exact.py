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
        hashes = np.asarray(sketches.values).reshape(-1, WORDS)
        order = np.lexsort(hashes.T)
        hashes = hashes[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
        keeper = np.empty(len(order), np.int64)
        keeper[order] = order[new][np.cumsum(new) - 1]
        return Resolution(keeper)

    def _hash(self, text: str) -> Words:
        if self.params.ignore_case:
            text = text.casefold()
        if self.params.ignore_whitespace:
            text = " ".join(text.split())
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8 * WORDS).digest()
        return np.frombuffer(digest, "<u8")
