"""Which documents are held out: a pure function of each one's own text."""

from __future__ import annotations

import hashlib


def place_of(text: str) -> int:
    """A number below 2^64 that hangs on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")


def is_held_out(place: int, fraction: float) -> bool:
    """Whether a document at this place belongs to validation: the place, read as a number in [0, 1), is below `fraction`.

    Adding, removing or reordering documents moves no other, and two copies of a text are never on both sides.
    """
    return place < fraction * 2**64


def is_validation(text: str, fraction: float) -> bool:
    """`is_held_out` of a text."""
    return is_held_out(place_of(text), fraction)
