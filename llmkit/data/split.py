"""Which documents are held out: a pure function of each one's own text."""

from __future__ import annotations

import hashlib


def is_validation(text: str, fraction: float) -> bool:
    """Whether a document belongs to validation: its hash, read as a number in [0, 1), is below `fraction`.

    Adding, removing or reordering documents moves no other, and two copies of a text are never on both sides.
    """
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
