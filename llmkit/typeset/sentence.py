"""Sentences that every format sets in its own way."""

from __future__ import annotations

from collections.abc import Iterable


class Named(str):
    """What is set apart within a sentence: a name, or the number that it is about."""


Sentence = list[str]
"""Pieces of text, those that are set apart as `Named`."""


def joined(pieces: Iterable[Sentence], between: str = ", ", last: str = " and ") -> Sentence:
    """An enumeration in English."""
    whole: Sentence = []
    pieces = list(pieces)
    for index, piece in enumerate(pieces):
        if index:
            whole.append(last if index == len(pieces) - 1 else between)
        whole += piece
    return whole


def many(number: int, thing: str) -> str:
    """A number of things, in the singular where it is one."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
