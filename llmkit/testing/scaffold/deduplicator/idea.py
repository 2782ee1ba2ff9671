"""Documents that begin alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmkit import Deduplicator, Document, Ragged, Resolution
from llmkit.testing.scaffold.deduplicator import IdeaParams


class Idea(Deduplicator):
    """The sketch of a document is one number, a hash of its first words; of those with the same number the first stays."""

    params: IdeaParams

    def sketch(self, documents: Sequence[Document]) -> list[NDArray[np.uint64]]:
        """For each document a row, here of one number; this runs in several processes."""
        return [self._number(document.text) for document in documents]

    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        """Sees the numbers of all documents at once: equal ones are the same beginning."""
        _, first, which = np.unique(sketches.values, return_index=True, return_inverse=True)
        return Resolution(first[which])

    def _number(self, text: str) -> NDArray[np.uint64]:
        beginning = " ".join(text.split()[: self.params.words])
        return np.frombuffer(hashlib.sha256(beginning.encode("utf-8", "replace")).digest()[:8], "<u8")
