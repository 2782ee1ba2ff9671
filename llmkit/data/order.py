"""The order of data: a permutation that is computed, not remembered."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
Words = NDArray[np.uint64]


def permute(places: NDArray[np.int64], n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """What stands at each of `places` in the order of this epoch: a bijection of [0, n), keyed by (seed, epoch).

    A Feistel network on 2h bits, 4^h >= n, applied again to what falls outside [0, n) (cycle walking: under four times on
    average). Constant time and no memory for any n. Luby and Rackoff 1988; Black and Rogaway, CT-RSA 2002.
    """
    half = max(((n - 1).bit_length() + 1) // 2, 1)
    keys = _keys(seed, epoch)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside = values >= n
    return values.astype(np.int64)


def in_epochs(places: NDArray[np.int64], n: int, *, seed: int) -> NDArray[np.int64]:
    """What stands at each of `places` of an endless order: every one of [0, n) once an epoch, each epoch in an order of its own."""
    epochs, within = np.divmod(places, n)
    items = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        now = epochs == epoch
        items[now] = permute(within[now], n, seed=seed, epoch=epoch)
    return items


def shuffled_documents(places: NDArray[np.int64], n: int, source: str) -> NDArray[np.int64]:
    """Which of the n documents of a source stands at each of `places`, where documents are shuffled before they are packed.

    It is the same for every run and every seed: what is packed is kept, and a seed has orders enough in that of the sequences.
    """
    digest = hashlib.blake2b(f"documents of {source}".encode(), digest_size=8).digest()
    return permute(places, n, seed=int.from_bytes(digest, "little"), epoch=0)


def _feistel(values: Words, half: int, keys: tuple[np.uint64, ...]) -> Words:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(words: Words) -> Words:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit in moves every bit out. Overflow is meant."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@lru_cache(maxsize=64)
def _keys(seed: int, epoch: int) -> tuple[np.uint64, ...]:
    digest = hashlib.blake2b(f"data order {seed} {epoch}".encode(), digest_size=8 * ROUNDS).digest()
    return tuple(np.frombuffer(digest, "<u8").astype(np.uint64))
