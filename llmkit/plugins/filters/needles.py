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


class Haystack:
    """Finds needles in bytes, each class of lengths by a look at all windows of 2^power bytes.

    A table of marks, one for some of the bits of a head, lets all but a few windows go by; the rest are looked up in the sorted heads.
    """

    def __init__(self, classes: Sequence[Needles]) -> None:
        self._classes = {needles.power: (needles, _marks(needles.heads), first) for needles, first in _numbered(classes)}
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
        needles, (marks, shift), first = self._classes[power]
        places = np.flatnonzero(marks[hashes[:begin_before] >> shift])
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
    """Some parts of a string, each once, as one owner's needles; `Needles` of several owners are put together by `gathered`."""
    if not len(starts):
        return
    powers = np.frexp(ends - starts)[1] - 1
    for power, hashes in windows(data, int(powers.max())):
        of = powers == power
        if of.any():
            heads, tails, lengths = hashes[starts[of]], hashes[ends[of] - (1 << power)], (ends - starts)[of]
            first = np.unique(np.stack([heads, tails, lengths.astype(np.uint64)]), axis=1, return_index=True)[1]
            owners = np.full(len(first), owner, np.int32)
            yield Needles(power, heads[first], tails[first], lengths[first].astype(np.int32), owners)


def gathered(parts: Sequence[Needles], common: int | None) -> tuple[list[Needles], int]:
    """One `Needles` a class; and how many were left out because more than `common` owners have the same one."""
    classes: list[Needles] = []
    left_out = 0
    for power in sorted({part.power for part in parts}):
        same = [part for part in parts if part.power == power]
        heads, tails = np.concatenate([part.heads for part in same]), np.concatenate([part.tails for part in same])
        lengths, owners = np.concatenate([part.lengths for part in same]), np.concatenate([part.owners for part in same])
        order = np.lexsort((owners, lengths, tails, heads))
        heads, tails, lengths, owners = heads[order], tails[order], lengths[order], owners[order]
        stay = np.ones(len(heads), np.bool_) if common is None else _owned_by(heads, tails, lengths) <= common
        left_out += int((~stay).sum())
        if stay.any():
            classes.append(Needles(power, heads[stay], tails[stay], lengths[stay], owners[stay]))
    return classes, left_out


def _owned_by(heads: Hashes, tails: Hashes, lengths: NDArray[np.int32]) -> Ints:
    """For each of sorted needles, how many are the same."""
    differs = (heads[1:] != heads[:-1]) | (tails[1:] != tails[:-1]) | (lengths[1:] != lengths[:-1])
    group = np.concatenate([[0], np.cumsum(differs)])
    sizes: Ints = np.bincount(group)[group]
    return sizes


def save(classes: Sequence[Needles], directory: Path) -> None:
    """Write each array into a file of its own, which numpy maps into memory."""
    for needles in classes:
        for name in ("heads", "tails", "lengths", "owners"):
            np.save(directory / f"{name}-{needles.power}.npy", getattr(needles, name), allow_pickle=False)
    (directory / "classes.json").write_text(json.dumps([needles.power for needles in classes]), encoding="utf-8")


def load(directory: Path) -> list[Needles]:
    """What `save` wrote, as maps of its files: all processes share them."""
    names = ("heads", "tails", "lengths", "owners")
    powers = json.loads((directory / "classes.json").read_text(encoding="utf-8"))
    return [Needles(power, *(np.load(directory / f"{name}-{power}.npy", mmap_mode="r") for name in names)) for power in powers]


def _numbered(classes: Sequence[Needles]) -> Iterator[tuple[Needles, int]]:
    first = 0
    for needles in classes:
        yield needles, first
        first += len(needles.heads)


def _marks(heads: Hashes) -> tuple[NDArray[np.bool_], np.uint64]:
    """A mark for each value that the highest bits of a head have, and by how much a hash is shifted to look at them."""
    bits = int(np.clip(np.ceil(np.log2(16 * len(heads))), 10, MOST_MARKS))
    shift = np.uint64(64 - bits)
    marks = np.zeros(1 << bits, np.bool_)
    marks[heads >> shift] = True
    return marks, shift


def _mixed(hashes: Hashes) -> Hashes:
    hashes ^= hashes >> _HALF
    hashes *= _MIX
    hashes ^= hashes >> _HALF
    return hashes


_BYTES = _mixed(_mixed((np.arange(256, dtype=np.uint64) + np.uint64(1)) * _JOIN))
_NONE = Hit(*(np.zeros(0, np.int64) for _ in Hit._fields))
