"""A sample of a stream of texts, in bounded memory: what is learned from where there is more text than learning has room for."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby

PASSAGE = re.compile(r"(?s).{1,4096}(?:\n+|\Z)|.{1,4096}")
"""Up to 4,096 characters and the line ends behind them; where a line is longer, just so many characters."""


def sampled(texts: Iterable[str], most: int | None) -> Iterator[str]:
    """The texts as they are, where they have at most `most` bytes of UTF-8 (None: any number), else passages with about so many.

    Passages are taken in the order of a hash of their text, so that the sample is spread over all texts evenly and is the same
    whatever their order. At most `most` bytes and a passage are held.
    """
    if most is None:
        yield from texts
        return
    kept: list[tuple[int, int, int, str]] = []
    size, bound = 0, 1 << 64
    for number, text in enumerate(texts):
        for place, passage in enumerate(PASSAGE.findall(text)):
            hashed = _hash(passage)
            if hashed >= bound:
                continue
            # The heap has the greatest hash at its top. What has once been too much stays out: otherwise the order would matter.
            heapq.heappush(kept, (-hashed, -number, -place, passage))
            size += _bytes(passage)
            while size > most and len(kept) > 1:
                dropped = heapq.heappop(kept)
                size, bound = size - _bytes(dropped[3]), -dropped[0]
    ordered = sorted((-number, -place, passage) for _, number, place, passage in kept)
    for _, passages in groupby(ordered, key=lambda one: one[0]):
        yield "".join(passage for _, _, passage in passages)


def _hash(passage: str) -> int:
    return int.from_bytes(blake2b(passage.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _bytes(passage: str) -> int:
    return len(passage.encode("utf-8", "surrogatepass"))
