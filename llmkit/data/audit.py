"""A deduplicator held against exact Jaccard similarity on a sample, next to what theory predicts of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llmkit.core.interfaces.deduplicator import Deduplicator
from llmkit.data.funnel import Audit, Curve

BINS = 20
"""Intervals of similarity, of equal width."""
ROWS = 256
"""Documents whose similarities to all others are held at once."""
EVEN = 0.5


class _Pairs(NamedTuple):
    """Pairs of documents with a shingle in common: their similarity, and whether they are in one cluster."""

    similarity: NDArray[np.float64]
    found: NDArray[np.bool_]


def audit(deduplicator: Deduplicator, texts: Sequence[str], keeper: NDArray[np.int64]) -> Audit | None:
    """How well it found the duplicates among these texts; None where it estimates no similarity.

    keeper  (N,) what `resolve` said of the same texts, by themselves

    The similarity of all pairs is computed: |A n B| / |A u B| of their `shingles`, by a sparse product, so that time and memory
    grow with the pairs that have anything in common. The threshold is where the deduplicator's own `match_rate` reaches a half,
    to a hundredth. Found is what is in one cluster, directly or by way of others.
    """
    rows = [deduplicator.shingles(text) for text in texts]
    threshold = _threshold(deduplicator)
    if threshold is None or any(row is None for row in rows):
        return None
    pairs = _concatenated(_pairs([row for row in rows if row is not None], np.asarray(keeper)))
    n = len(texts)
    found = _within_clusters(np.asarray(keeper))
    duplicates = pairs.similarity >= threshold
    right = int(np.count_nonzero(pairs.found & duplicates))
    return Audit(
        documents=n,
        threshold=threshold,
        duplicates=int(duplicates.sum()),
        found=found,
        recall=right / int(duplicates.sum()) if duplicates.any() else None,
        precision=right / found if found else None,
        curve=list(_curve(deduplicator, pairs, n * (n - 1) // 2, found)),
    )


def _threshold(deduplicator: Deduplicator) -> float | None:
    for step in range(1, 101):
        rate = deduplicator.match_rate(step / 100)
        if rate is not None and rate >= EVEN:
            return step / 100
    return None


def _pairs(rows: Sequence[NDArray[np.uint64]], keeper: NDArray[np.int64]) -> Iterator[_Pairs]:
    sizes = np.array([len(row) for row in rows], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    _, columns = np.unique(np.concatenate([np.zeros(0, np.uint64), *rows]), return_inverse=True)
    width = int(columns.max()) + 1 if len(columns) else 1
    has = csr_array((np.ones(len(columns), np.int32), columns, starts), shape=(len(rows), width))
    of_shingle = has.T.tocsr()
    for low in range(0, len(rows), ROWS):
        shared = (has[low : low + ROWS] @ of_shingle).tocoo()
        one, other = shared.coords[0] + low, shared.coords[1]
        once = one < other
        one, other, count = one[once], other[once], shared.data[once]
        yield _Pairs(count / (sizes[one] + sizes[other] - count), keeper[one] == keeper[other])


def _concatenated(parts: Iterator[_Pairs]) -> _Pairs:
    empty = _Pairs(np.zeros(0), np.zeros(0, np.bool_))
    return _Pairs(*(np.concatenate(columns) for columns in zip(empty, *parts)))


def _within_clusters(keeper: NDArray[np.int64]) -> int:
    sizes = np.unique(keeper, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def _curve(deduplicator: Deduplicator, pairs: _Pairs, all_pairs: int, all_found: int) -> Iterator[Curve]:
    """The lowest interval also counts the pairs that have nothing in common."""
    bins = np.minimum((pairs.similarity * BINS).astype(np.int64), BINS - 1)
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        here = bins == number
        similarities, counts = np.unique(pairs.similarity[here], return_counts=True)
        found = int(pairs.found[here].sum())
        if number == 0:
            similarities, counts = np.append(similarities, 0.0), np.append(counts, all_pairs - len(bins))
            found += all_found - int(pairs.found.sum())
        n = int(counts.sum())
        expected = _mean_rate(deduplicator, similarities, counts) if n else deduplicator.match_rate((low + high) / 2)
        yield Curve(low=low, high=high, pairs=n, found=found, expected=expected)


def _mean_rate(deduplicator: Deduplicator, similarities: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    rates = [deduplicator.match_rate(similarity) or 0.0 for similarity in similarities.tolist()]
    return float(np.average(rates, weights=counts))
