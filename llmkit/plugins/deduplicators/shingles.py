"""Word n-grams of many texts as 64-bit hashes, in numpy throughout: no Python for a word or a character.

A text becomes code points, a code point the random number of its letter, a word the polynomial of its letters' numbers modulo 2^64
(a difference of two running sums), a run of words the sum of their hashes, each times the multiplier of its place.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.deduplicator import Ragged, Words

SEPARATOR = "\0"
NO_LETTER, MARK, ALONE = np.uint64(0), np.uint64(1), np.uint64(1)
"""Of a letter's number, the lowest bit says that it is a word by itself; all of MARK, that it is not there at all."""
PLANES = 0x40000
"""Code points from here on are no letters (tags, private use)."""
PIECE = 1 << 17
"""Code points that are looked at together: what is held for each is some 60 bytes."""
FACTOR = 0x9E3779B97F4A7C15
WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, PLANES - 1),
)
"""Scripts that are written without spaces between words: each letter is a word."""


def shingles(texts: Sequence[str], words: int) -> Ragged:
    """For each text the hashes of its runs of so many words, in order, at least one.

    A word is a run of letters and digits, whatever their case and accents; in scripts without spaces, a letter. A text of fewer
    words is one run of all of them, and one without words is a run by itself.
    """
    hashes, counts = _words(texts)
    found = _runs(hashes, counts, words)
    for index in np.flatnonzero(counts == 0).tolist():
        digest = hashlib.blake2b(texts[index].encode("utf-8", "surrogatepass"), digest_size=8).digest()
        found.values[found.starts[index]] = int.from_bytes(digest, "little")
    return found


def mixed(numbers: Words) -> Words:
    """A bijection of 64-bit numbers after which every bit depends on every bit: the end of MurmurHash3."""
    numbers = numbers ^ (numbers >> np.uint64(33))
    numbers *= np.uint64(0xFF51AFD7ED558CCD)
    numbers ^= numbers >> np.uint64(33)
    numbers *= np.uint64(0xC4CEB9FE1A85EC53)
    numbers ^= numbers >> np.uint64(33)
    return numbers


def random_numbers(seed: int, n: int) -> Words:
    """The same in every version of numpy: splitmix64."""
    start = (seed + 1) * 0xD1342543DE82EF95 % 2**64
    return mixed(np.uint64(start) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(FACTOR))


def _words(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64]]:
    """Hashes of all words of all texts, and how many each text has."""
    hashes: list[Words] = []
    counts = np.zeros(len(texts), np.int64)
    for owners, pieces in _batches(texts):
        found, of_piece = _words_of_batch(pieces)
        hashes.append(found)
        np.add.at(counts, owners, of_piece)
    return np.concatenate([np.zeros(0, np.uint64), *hashes]), counts


def _batches(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of texts with the numbers of the texts, together no longer than a piece may be."""
    owners: list[int] = []
    pieces: list[str] = []
    length = 1
    for index, text in enumerate(texts):
        for piece in _pieces(text):
            if pieces and length + len(piece) >= PIECE:
                yield owners, pieces
                owners, pieces, length = [], [], 1
            owners.append(index)
            pieces.append(piece)
            length += len(piece) + 1
    if pieces:
        yield owners, pieces


def _pieces(text: str) -> Iterator[str]:
    """A long text is cut after a space; where there has been none for long, anywhere."""
    start = 0
    while len(text) - start > PIECE - 2:
        end = start + PIECE - 2
        end = text.rfind(" ", end - PIECE // 8, end) + 1 or end
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _words_of_batch(pieces: list[str]) -> tuple[Words, NDArray[np.int64]]:
    joined = SEPARATOR.join(["", *pieces, ""])
    bounds = np.cumsum([1, *(len(piece) + 1 for piece in pieces)])
    if joined.isascii():
        letters = _letters()[np.frombuffer(joined.encode(), np.uint8)]
        inside = letters != NO_LETTER
        cut = inside[1:] != inside[:-1]
    else:
        letters = _letters().take(np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4"), mode="clip")
        letters, bounds = _without_marks(letters, bounds)
        inside = letters != NO_LETTER
        alone = letters & ALONE != 0
        cut = (inside[1:] != inside[:-1]) | alone[1:] | alone[:-1]
    at = np.flatnonzero(cut) + 1
    starts, ends = at[inside[at]], at[inside[at - 1]]
    tables = _powers()
    sums = np.cumsum(letters * tables.powers[: len(letters)])
    hashes = mixed((sums[ends - 1] - sums[starts - 1]) * tables.inverse[starts])
    return hashes, np.diff(np.searchsorted(starts, bounds))


def _without_marks(letters: Words, bounds: NDArray[np.int64]) -> tuple[Words, NDArray[np.int64]]:
    there = letters != MARK
    if there.all():
        return letters, bounds
    before = np.concatenate([[0], np.cumsum(there)])
    return letters[there], before[bounds]


def _runs(hashes: Words, counts: NDArray[np.int64], words: int) -> Ragged:
    """Windows over each text's words. Zeros stand between the texts, so that a window past an end sees no other text."""
    slots = counts + words - 1
    first = np.cumsum(slots) - slots
    spread = np.zeros(int(slots.sum()) + words, np.uint64)
    spread[np.arange(len(hashes)) + np.repeat(np.arange(len(counts)) * (words - 1), counts)] = hashes
    n = len(spread) - words + 1
    sums = np.zeros(n, np.uint64)
    for place, multiplier in enumerate(random_numbers(0, words) | np.uint64(1)):
        sums += spread[place : place + n] * multiplier
    kept = np.maximum(counts - words + 1, 1)
    starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    at = np.arange(starts[-1]) + np.repeat(first - starts[:-1], kept)
    return Ragged(mixed(sums[at]), starts)


class _Powers(NamedTuple):
    powers: Words
    inverse: Words


@cache
def _powers() -> _Powers:
    """Powers of an odd number modulo 2^64, and of its inverse."""
    factors = np.array([[FACTOR], [pow(FACTOR, -1, 2**64)]], np.uint64)
    powers, inverse = np.cumprod(np.broadcast_to(factors, (2, PIECE + 1)), axis=1, dtype=np.uint64)
    return _Powers(powers, inverse)


@cache
def _letters() -> Words:
    """The number of every code point; upper and lower case and letters with and without accents have the same."""
    numbers = random_numbers(1, PLANES) & ~ALONE
    table = np.zeros(PLANES, np.uint64)
    for code in range(PLANES - 1):
        character = chr(code)
        if character.isalnum():
            table[code] = numbers[ord(_plain(character))]
        elif not character.isascii() and (category := unicodedata.category(character)) in ("Mn", "Mc"):
            table[code] = MARK if category == "Mn" else numbers[code]
    for low, high in WITHOUT_SPACES:
        block = table[low : high + 1]
        block[block > MARK] |= ALONE
    return table


def _plain(character: str) -> str:
    """Its folded case without accents, where that is one letter."""
    letters = unicodedata.normalize("NFD", character.casefold())
    return letters[0] if all(unicodedata.category(mark) == "Mn" for mark in letters[1:]) else character
