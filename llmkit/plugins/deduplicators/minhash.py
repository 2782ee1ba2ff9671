"""Documents that are nearly the same: MinHash and locality-sensitive hashing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution, Words
from llmkit.core.interfaces.source import Document
from llmkit.plugins.deduplicators.clusters import Clusters, Indices
from llmkit.plugins.deduplicators.components import MinHashParams
from llmkit.plugins.deduplicators.shingles import mixed, random_numbers, shingles

AT_ONCE = 1 << 18
"""Characters of the documents that are sketched together."""
IN_CACHE = 1 << 14
"""Shingles that are permuted together: they and what becomes of them stay in the processor's first caches."""
ROWS = 1 << 10
"""Sketches next to each other that are looked at before their memory is released."""
PAIRS = 1 << 6
"""Pairs of sketches from anywhere, likewise: with each comes what lies around it in the file, up to 2 MB."""
NEIGHBOURS = 30
"""In a bucket of more documents, each is compared with so many that follow it. A large bucket is of pages of one template, whose near
copies share other bands with nobody else: of 6,000 such pages with 1,000 copies, 10, 30 and 100 found 996, 996 and 997."""
Halves = NDArray[np.uint32]


class MinHash(Deduplicator):
    """Clusters of documents whose word n-grams have a Jaccard similarity s = |A n B| / |A u B| of `threshold` and more.

    A signature is, for each of bands x rows permutations of the shingles' hashes, h(x) = a x + b modulo 2^32, the least; two
    documents agree on one with probability s, on all of some band with

        P(s) = 1 - (1 - s^rows)^bands

    and are candidates then (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3). A candidate is verified
    by the shingles that both have kept. What is found directly or by way of others is a cluster, of which one copy stays.

    A sketch is a number for each band, and then the least `sample` of the shingles' hashes (where nothing is verified, the least one),
    32 bits each, ascending.
    """

    params: MinHashParams

    def __init__(self, params: MinHashParams) -> None:
        super().__init__(params)
        n = params.bands * params.rows
        numbers = random_numbers(params.seed, 2 * n).astype(np.uint32)
        self._multipliers, self._offsets = numbers[:n] | np.uint32(1), numbers[n:]

    def sketch(self, documents: Sequence[Document]) -> list[Words]:
        return [row for texts in _together(documents) for row in self._sketch(texts)]

    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        keys = self._keys(sketches)
        clusters = Clusters(len(sketches))
        if self.params.threshold is None:
            for band in keys.T:
                for left, right in _neighbours(band, 1):
                    clusters.join(left, right)
        else:
            self._verified(sketches, keys, clusters, self.params.threshold)
        return Resolution(clusters.label if self.params.keep == "first" else clusters.longest(np.asarray(sizes)))

    def shingles(self, text: str) -> Words:
        return np.unique(shingles([text], self.params.words).values)

    def sample_key(self, sketch: Words) -> int:
        """The least hash: one permutation more, which no band has; mixed, so that it does not tell a long document."""
        least = sketch[self.params.bands :].view(np.uint32)[:1]
        return int(mixed(least.astype(np.uint64))[0])

    def match_rate(self, similarity: float) -> float:
        """P(s) of a candidate, and 0 of one that is not verified."""
        if self.params.threshold is not None and similarity < self.params.threshold:
            return 0.0
        return 1 - (1 - similarity**self.params.rows) ** self.params.bands

    def _keys(self, sketches: Ragged) -> Words:
        """(documents, bands): what each sketch begins with."""
        keys = np.empty((len(sketches), self.params.bands), np.uint64)
        for low in range(0, len(sketches), ROWS):
            begins = sketches.starts[low : min(low + ROWS, len(sketches)), None]
            keys[low : low + ROWS] = sketches.values[begins + np.arange(self.params.bands)]
            sketches.release()
        return keys

    def _sketch(self, texts: list[str]) -> list[Words]:
        found = shingles(texts, self.params.words)
        hashes = Ragged32(found.values.astype(np.uint32), found.starts)
        bands = self._bands(self._signatures(hashes))
        return _rows(bands, _least(hashes, self.params.sample if self.params.threshold is not None else 1))

    def _signatures(self, hashes: Ragged32) -> Halves:
        """(texts, bands x rows): the least of each permutation."""
        found = np.empty((len(self._multipliers), len(hashes.starts) - 1), np.uint32)
        for low, high in _blocks(hashes.starts, IN_CACHE):
            block = hashes.values[hashes.starts[low] : hashes.starts[high]]
            starts = hashes.starts[low:high] - hashes.starts[low]
            permuted = np.empty_like(block)
            for permutation, (multiplier, offset) in enumerate(zip(self._multipliers, self._offsets)):
                np.multiply(block, multiplier, out=permuted)
                np.add(permuted, offset, out=permuted)
                np.minimum.reduceat(permuted, starts, out=found[permutation, low:high])
        return found.T

    def _bands(self, signatures: Halves) -> Words:
        """(texts, bands): what stands for the rows of each band."""
        rows = signatures.reshape(len(signatures), self.params.bands, self.params.rows)
        found = np.zeros(rows.shape[:2], np.uint64)
        for row in range(self.params.rows):
            found = mixed(found + rows[:, :, row] + np.uint64(row + 1 << 32))
        return found

    def _verified(self, sketches: Ragged, keys: Words, clusters: Clusters, threshold: float) -> None:
        """Joins candidates band by band, so that no more is held than a band's. What is in one cluster already is not compared again."""
        members = _distinct(sketches, keys, clusters)
        for band in keys[members].T:
            for left, right in _neighbours(band, NEIGHBOURS):
                left, right = members[left], members[right]
                apart = clusters.label[left] != clusters.label[right]
                self._join_similar(sketches, left[apart], right[apart], clusters, threshold)

    def _join_similar(self, sketches: Ragged, left: Indices, right: Indices, clusters: Clusters, threshold: float) -> None:
        similar = _compared(sketches, left, right, lambda one, other: self._similarity(one, other) >= threshold)
        clusters.join(left[similar], right[similar])

    def _similarity(self, one: Words, other: Words) -> float:
        """Jaccard similarity by the shingles that were kept, up to the last that both would have kept."""
        first, second = (_kept(row[self.params.bands :]) for row in (one, other))
        limits = [kept[-1] for kept in (first, second) if len(kept) == self.params.sample]
        if limits:
            first, second = (kept[: np.searchsorted(kept, min(limits), side="right")] for kept in (first, second))
        both = np.sort(np.concatenate([first, second]))
        shared = int(np.count_nonzero(both[1:] == both[:-1]))
        return shared / (len(both) - shared)


class Ragged32(NamedTuple):
    """As `Ragged`, of 32 bits."""

    values: Halves
    starts: NDArray[np.int64]


def _together(documents: Sequence[Document]) -> Iterator[list[str]]:
    """Texts in groups of bounded length, or of one."""
    texts: list[str] = []
    length = 0
    for document in documents:
        if texts and length + len(document.text) > AT_ONCE:
            yield texts
            texts, length = [], 0
        texts.append(document.text)
        length += len(document.text)
    if texts:
        yield texts


def _blocks(starts: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that have so many values together, or of one row."""
    low = 0
    while low < len(starts) - 1:
        high = max(int(np.searchsorted(starts, starts[low] + size, side="right")) - 1, low + 1)
        yield low, high
        low = high


def _least(hashes: Ragged32, most: int) -> Ragged32:
    """Of each row the distinct values, ascending, the first `most`."""
    lengths = np.diff(hashes.starts)
    row = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    keys = np.sort(row << np.uint64(32) | hashes.values)
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    starts = np.searchsorted(keys, np.arange(len(lengths) + 1, dtype=np.uint64) << np.uint64(32))
    place = np.arange(len(keys)) - np.repeat(starts[:-1], np.diff(starts))
    kept = place < most
    return Ragged32(keys[kept].astype(np.uint32), np.concatenate([[0], np.cumsum(np.minimum(np.diff(starts), most))]))


def _rows(bands: Words, hashes: Ragged32) -> list[Words]:
    """A row a text: its bands, and its hashes two in a word; an odd one is there twice."""
    lengths = np.diff(hashes.starts)
    ends = np.cumsum(bands.shape[1] + (lengths + 1) // 2)
    starts = ends - (lengths + 1) // 2
    flat = np.empty(int(ends[-1]), np.uint64)
    flat[starts[:, None] + np.arange(-bands.shape[1], 0)] = bands
    halves = flat.view(np.uint32)
    halves[2 * ends - 1] = hashes.values[hashes.starts[1:] - 1]
    halves[np.arange(len(hashes.values)) + np.repeat(2 * starts - hashes.starts[:-1], lengths)] = hashes.values
    return np.split(flat, ends[:-1])


def _kept(words: Words) -> Halves:
    """The hashes of a row, as they were."""
    halves = words.view(np.uint32)
    return halves[:-1] if len(halves) > 1 and halves[-1] == halves[-2] else halves


def _distinct(sketches: Ragged, keys: Words, clusters: Clusters) -> Indices:
    """Documents whose sketch no earlier one has. The others are joined to it: ten thousand copies are not compared with each other."""
    _, first, which = np.unique(mixed(keys.sum(axis=1)), return_index=True, return_inverse=True)
    earlier = first[which.ravel()]
    left = np.flatnonzero(earlier != np.arange(len(earlier)))
    equal = _compared(sketches, left, earlier[left], np.array_equal)
    clusters.join(left[equal], earlier[left[equal]])
    return np.flatnonzero(clusters.label == np.arange(len(earlier)))


def _compared(sketches: Ragged, left: Indices, right: Indices, alike: Callable[[Words, Words], bool]) -> NDArray[np.bool_]:
    """(pairs,) whether the sketches of each pair are alike."""
    found = np.empty(len(left), np.bool_)
    for place, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        found[place] = alike(sketches.row(one), sketches.row(other))
        if place % PAIRS == PAIRS - 1:
            sketches.release()
    sketches.release()
    return found


def _neighbours(keys: Words, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of equal keys: those next to each other in their bucket, then those next but one, and so on, `most` times at most."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    at = np.arange(len(keys))
    for distance in range(1, most + 1):
        at = at[at + distance < len(keys)]
        at = at[ordered[at] == ordered[at + distance]]
        if not len(at):
            return
        yield order[at], order[at + distance]
