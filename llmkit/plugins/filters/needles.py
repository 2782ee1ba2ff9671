"""Many strings found in one pass over text, wherever they begin, with no string kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

BLOCK = 1 << 20
"""Bytes that are looked at together: what is computed for each of them takes a few dozen bytes."""
MOST_MARKS = 24
ARRAYS = ("heads", "tails", "lengths", "owners")

_MIX = np.uint64(0x9E3779B97F4A7C15)
_JOIN = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


class Hit(NamedTuple):
    """Where needles were found: for each hit the byte at which it starts, its length, which needle it is and whose it is."""

    starts: Ints
    lengths: Ints
    needles: Ints
    owners: Ints


@dataclass(frozen=True)
class Needles:
    """The needles of 2^power to 2^(power + 1) - 1 bytes, sorted by `heads`.

    A needle is known by its length and the hashes of its first and its last 2^power bytes, which together are all of it: 128 bits, with
    which no two strings have ever been seen to agree by chance. 24 bytes each, maps of files where they were loaded.

    heads, tails  (n,) uint64
    lengths       (n,) int32, in bytes
    owners        (n,) int32, a number that means something to who asks
    """

    power: int
    heads: Hashes
    tails: Hashes
    lengths: NDArray[np.int32]
    owners: NDArray[np.int32]


class _Marks:
    """Which highest and which lowest bits the heads have: 1/16 of all, so that both agree by chance for one hash in 256."""

    def __init__(self, heads: Hashes) -> None:
        bits = int(np.clip(np.ceil(np.log2(16 * len(heads))), 10, MOST_MARKS))
        self._shift, self._mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        self._high, self._low = np.zeros(1 << bits, np.bool_), np.zeros(1 << bits, np.bool_)
        self._high[heads >> self._shift] = True
        self._low[heads & self._mask] = True

    def places(self, hashes: Hashes) -> Ints:
        """Where there may be a head."""
        high = np.flatnonzero(self._high[hashes >> self._shift])
        both: Ints = high[self._low[hashes[high] & self._mask]]
        return both


class Haystack:
    """Finds needles in bytes, each class of lengths by a look at all windows of 2^power bytes.

    Two tables of marks, one for the highest bits of every head and one for the lowest, let all but one in some hundred windows go by; the
    rest are looked up in the sorted heads.
    """

    def __init__(self, classes: Sequence[Needles]) -> None:
        self._classes = {needles.power: (needles, _Marks(needles.heads), first) for needles, first in _numbered(classes)}
        self._longest = max((int(needles.lengths.max()) for needles in classes), default=1)

    def find(self, data: Bytes) -> Hit:
        """All hits, in no order that means anything."""
        found = [hit for start in range(0, len(data), BLOCK) for hit in self._in_block(data, start)]
        return Hit(*(np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True))) if found else _NONE

    def _in_block(self, data: Bytes, start: int) -> Iterator[Hit]:
        """Those that begin in the block that starts here."""
        block = data[start : start + BLOCK + self._longest - 1]
        for power, hashes in windows(block, max(self._classes, default=-1)):
            if power in self._classes:
                hit = self._of_class(power, hashes, min(BLOCK, len(hashes)))
                if len(hit.starts):
                    yield hit._replace(starts=hit.starts + start)

    def _of_class(self, power: int, hashes: Hashes, begin_before: int) -> Hit:
        needles, marks, first = self._classes[power]
        places = marks.places(hashes[:begin_before])
        low = np.searchsorted(needles.heads, hashes[places], "left")
        counts = np.searchsorted(needles.heads, hashes[places], "right") - low
        which = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        starts, lengths = np.repeat(places, counts), needles.lengths[which]
        last = starts + lengths - (1 << power)
        right = last < len(hashes)
        right[right] = needles.tails[which[right]] == hashes[last[right]]
        return Hit(starts[right], lengths[right], which[right] + first, needles.owners[which[right]])


def windows(data: Bytes, most: int) -> Iterator[tuple[int, Hashes]]:
    """For each power p up to `most`, a hash of the 2^p bytes from every place on, as far as there are so many.

    h_0 is a fixed number for each byte, and h_{p+1}[i] mixes h_p[i] with h_p[i + 2^p]: each doubling costs one pass.
    """
    hashes = _BYTES[data]
    for power in range(most + 1):
        if power:
            half = 1 << (power - 1)
            if len(hashes) <= half:
                return
            hashes = _mixed(hashes[:-half] * _JOIN + hashes[half:])
        if not len(hashes):
            return
        yield power, hashes


def needles_of(data: Bytes, starts: Ints, ends: Ints, owner: int) -> Iterator[Needles]:
    """Some parts of a string as one owner's needles, in no order; `gathered` puts those of several owners together."""
    if not len(starts):
        return
    powers = np.frexp(ends - starts)[1] - 1
    for power, hashes in windows(data, int(powers.max())):
        of = powers == power
        if of.any():
            lengths = (ends - starts)[of].astype(np.int32)
            yield Needles(power, hashes[starts[of]], hashes[ends[of] - (1 << power)], lengths, np.full(len(lengths), owner, np.int32))


def gathered(parts: Sequence[Needles], common: int | None) -> tuple[list[Needles], int]:
    """One `Needles` a class, each once an owner; and how many were left out because more than `common` owners have the same one."""
    classes: list[Needles] = []
    left_out = 0
    for power in sorted({part.power for part in parts}):
        needles = _once(_together([part for part in parts if part.power == power]))
        stay = np.ones(len(needles.heads), np.bool_) if common is None else _owned_by(needles) <= common
        left_out += int((~stay).sum())
        if stay.any():
            classes.append(_taken(needles, stay))
    return classes, left_out


def _together(parts: Sequence[Needles]) -> Needles:
    """Those of one class, sorted: the same ones stand beside each other, in the order of their owners."""
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS]
    heads, tails, lengths, owners = arrays
    return _taken(Needles(parts[0].power, heads, tails, lengths, owners), np.lexsort((owners, lengths, tails, heads)))


def _once(needles: Needles) -> Needles:
    """Of sorted needles, each owner's once."""
    return _taken(needles, _differs(needles) | np.diff(needles.owners, prepend=-1).astype(np.bool_))


def _owned_by(needles: Needles) -> Ints:
    """For each of sorted needles, how many are the same."""
    group = np.cumsum(_differs(needles)) - 1
    sizes: Ints = np.bincount(group)[group]
    return sizes


def _differs(needles: Needles) -> NDArray[np.bool_]:
    """Whether each of sorted needles is another than the one before it; the first is."""
    differs = np.ones(len(needles.heads), np.bool_)
    heads, tails, lengths = needles.heads, needles.tails, needles.lengths
    differs[1:] = (heads[1:] != heads[:-1]) | (tails[1:] != tails[:-1]) | (lengths[1:] != lengths[:-1])
    return differs


def _taken(needles: Needles, which: NDArray[np.bool_] | Ints) -> Needles:
    return Needles(needles.power, needles.heads[which], needles.tails[which], needles.lengths[which], needles.owners[which])


def save(classes: Sequence[Needles], directory: Path) -> None:
    """Write each array into a file of its own, which numpy maps into memory."""
    for needles in classes:
        for name in ARRAYS:
            np.save(directory / f"{name}-{needles.power}.npy", getattr(needles, name), allow_pickle=False)
    (directory / "classes.json").write_text(json.dumps([needles.power for needles in classes]), encoding="utf-8")


def load(directory: Path) -> list[Needles]:
    """What `save` wrote, as maps of its files: all processes share them."""
    powers = json.loads((directory / "classes.json").read_text(encoding="utf-8"))
    return [Needles(power, *(np.load(directory / f"{name}-{power}.npy", mmap_mode="r") for name in ARRAYS)) for power in powers]


def _numbered(classes: Sequence[Needles]) -> Iterator[tuple[Needles, int]]:
    first = 0
    for needles in classes:
        yield needles, first
        first += len(needles.heads)


def _mixed(hashes: Hashes) -> Hashes:
    hashes ^= hashes >> _HALF
    hashes *= _MIX
    hashes ^= hashes >> _HALF
    return hashes


_BYTES = _mixed(_mixed((np.arange(256, dtype=np.uint64) + np.uint64(1)) * _JOIN))
_NONE = Hit(*(np.zeros(0, np.int64) for _ in Hit._fields))
