"""The order of data from several sources in given proportions: still a permutation that is computed, not remembered.

The places of the order are cut into blocks of N. In each block every source has the same whole number of places, its proportion of N
rounded, at places of that block's own; and at its places a source has its own items, epoch by epoch, each epoch in an order of its own.
So proportions hold in every block, not only on average, a source that is repeated is read to its end before it begins again, and what
stands at a place is a function of (seed, place) whose cost does not grow with either.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.data.order import in_epochs, permute

SHORTEST = 512
"""Blocks are at least so long, and at most twice as long as they need be."""
FEWEST = 16
"""A block is to have so many places of the rarest source, so that rounding changes its part by 3% at most,"""
LONGEST = 1 << 16
"""unless it would be longer than this."""
KEPT = 4
"""Blocks that are remembered."""

Places = NDArray[np.int64]


class Span(NamedTuple):
    """The items of a source: `[first, first + items)`."""

    first: int
    items: int


class MixedOrder:
    """What stands at each place, of several sources.

    counts  source -> its places in each block
    """

    def __init__(self, sources: Mapping[str, Span], proportions: Mapping[str, float], *, seed: int) -> None:
        """proportions  source -> its part; those with a part have items"""
        names = [name for name in sources if proportions.get(name, 0) > 0]
        self.counts = dict(zip(names, block_counts([proportions[name] for name in names]), strict=True))
        self._items = [sources[name] for name in names]
        # By its name: another source beside it does not change the order within this one.
        self._seeds = [_seed(seed, f"source {name}") for name in names]
        self._block_seed = _seed(seed, "blocks")
        # Which source a slot of a block belongs to, before the slots are mixed.
        self._slots = np.repeat(np.arange(len(names)), list(self.counts.values()))
        self._blocks: OrderedDict[int, tuple[Places, Places]] = OrderedDict()

    def at(self, places: Places) -> Places:
        """The item at each of these places, ascending."""
        found = np.empty_like(places)
        blocks, within = np.divmod(places, len(self._slots))
        owners, turns = np.empty_like(places), np.empty_like(places)
        for block in np.unique(blocks).tolist():
            now = blocks == block
            in_block = self._block(block)
            owners[now], turns[now] = in_block[0][within[now]], in_block[1][within[now]]
        for owner, (span, seed, count) in enumerate(zip(self._items, self._seeds, self.counts.values(), strict=True)):
            mine = owners == owner
            found[mine] = span.first + in_epochs(blocks[mine] * count + turns[mine], span.items, seed=seed)
        return found

    def _block(self, block: int) -> tuple[Places, Places]:
        """(N,) whose each place is, and (N,) how many of the same source come before it in the block."""
        if block not in self._blocks:
            owners = self._slots[permute(np.arange(len(self._slots)), len(self._slots), seed=self._block_seed, epoch=block)]
            turns = np.empty_like(owners)
            for owner, count in enumerate(self.counts.values()):
                turns[owners == owner] = np.arange(count)
            self._blocks[block] = owners, turns
            while len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[block]


def block_counts(proportions: Sequence[float]) -> list[int]:
    """How many places of a block each source has: proportions in whole numbers, by the largest remainders, none of them 0.

    The block is as long as makes them nearest to the proportions: 2 to 1 is exact, as is all that has a common denominator below 1,024
    and no source that is rare.
    """
    total = sum(proportions)
    parts = [one / total for one in proportions]
    # The longest first: of a part that is next to nothing the quotient is infinite.
    needed = max(SHORTEST, round(min(FEWEST / min(parts), LONGEST)))
    lengths = range(needed, 2 * needed, needed // SHORTEST)
    return min((_rounded(parts, length) for length in lengths), key=lambda counts: _distance(parts, counts))


def _rounded(parts: Sequence[float], length: int) -> list[int]:
    """Hamilton's method. A source that would have no place has one, of those of the source with the most."""
    counts = [int(part * length) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda index: (counts[index] - parts[index] * length, index))
    for index in by_remainder[: length - sum(counts)]:
        counts[index] += 1
    for index, count in enumerate(counts):
        if not count:
            counts[index] = 1
            counts[counts.index(max(counts))] -= 1
    return counts


def _distance(parts: Sequence[float], counts: Sequence[int]) -> float:
    """The largest error of a part, as a part of it. Rounded, so that no machine's last bit chooses another block."""
    length = sum(counts)
    return round(max(abs(count / length / part - 1) for part, count in zip(parts, counts, strict=True)), 9)


def _seed(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")
