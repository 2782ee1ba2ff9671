"""Text as a sparse vector: counts of its n-grams of bytes and of words, hashed into a fixed number of buckets."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD6E8FEB86659FD93)


class HashedNgrams(NamedTuple):
    """What is counted: runs of 1 up to `characters` bytes of UTF-8 and of 1 up to `words` words, in 2^bits buckets. Case counts.

    Of a text with n_b n-grams in bucket b, the vector is x_b = sqrt(n_b) / sqrt(sum n): it has length 1 (Hellinger's square root, which
    keeps the commonest n-grams from deciding everything). Buckets are shared by the n-grams that fall into them (Weinberger et al.,
    arXiv 0902.2206). Only the first `read` characters are looked at.
    """

    characters: int
    words: int
    bits: int
    read: int

    def buckets(self, text: str) -> NDArray[np.int64]:
        """The bucket of every n-gram of a text, repeated as often as it occurs, in no order that means anything."""
        data = text[: self.read].encode("utf-8", "replace")
        bytes_ = np.frombuffer(data, np.uint8).astype(np.uint64)
        words = np.fromiter(map(zlib.crc32, _WORD.findall(data)), np.uint64)
        families = [*_runs(bytes_, self.characters, 0), *_runs(words, self.words, 1)]
        if not families:
            return np.empty(0, np.int64)
        hashes = np.concatenate(families)
        mixed: Hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIXER
        return (mixed >> np.uint64(64 - self.bits)).astype(np.int64)

    def vector(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The buckets that are not empty, ascending, and their values."""
        buckets, counts = np.unique(self.buckets(text), return_counts=True)
        return buckets.astype(np.int32), np.sqrt(counts / max(counts.sum(), 1)).astype(np.float32)

    def matrix(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
        """Rows of `vector`, as scipy's CSR takes them: values, buckets, and where each row begins."""
        rows = [self.vector(text) for text in texts]
        starts = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
        return np.concatenate([values for _, values in rows]), np.concatenate([buckets for buckets, _ in rows]), starts

    def product(self, text: str, weights: NDArray[np.float32]) -> float:
        """weights . x, without the sorting: sum over the n-grams of w_b / sqrt(n_b), over the root of their number."""
        buckets = self.buckets(text)
        if not len(buckets):
            return 0.0
        counts = np.bincount(buckets, minlength=1)
        return float(np.sum(weights[buckets] / np.sqrt(counts[buckets])) / np.sqrt(len(buckets)))


def _runs(symbols: Hashes, longest: int, family: int) -> list[Hashes]:
    """A hash of every run of 1, 2, ... symbols: h <- h m + s + 1, which each length extends from the one before."""
    found: list[Hashes] = []
    hashes = np.full(len(symbols) + 1, family, np.uint64)
    for length in range(1, min(longest, len(symbols)) + 1):
        hashes = hashes[: len(symbols) - length + 1] * _MULTIPLIER + symbols[length - 1 :] + np.uint64(1)
        found.append(hashes)
    return found
