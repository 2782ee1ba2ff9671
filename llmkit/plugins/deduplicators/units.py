"""Parts of documents that an earlier document has: paragraphs, lines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution, Words
from llmkit.core.interfaces.source import Document
from llmkit.plugins.deduplicators.components import UnitParams

SHORT = 0
"""Stands for a unit that is too short to be cut."""
AT_ONCE = 1 << 23
"""Units that are sorted together, about: what `resolve` holds besides its answer is some 40 bytes for each of them."""
BLANK = r"(?:\s*(?:\n|\Z))?"
PARAGRAPH = re.compile(rf".*?\n[^\S\n]*\n{BLANK}|.+", re.DOTALL)
LINE = re.compile(rf"[^\n]*\n{BLANK}|[^\n]+")


class _Units(Deduplicator):
    """The first document with a unit keeps it, as often as it has it; later documents lose it.

    Units are compared without the spaces around them. A sketch is a 64-bit hash for every unit, in order.
    """

    params: UnitParams
    pattern: re.Pattern[str]

    def units(self, text: str) -> list[str]:
        return self.pattern.findall(text)

    def sketch(self, documents: Sequence[Document]) -> list[Words]:
        return [np.array([self._hash(unit) for unit in self.units(document.text)], np.uint64) for document in documents]

    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        starts = np.asarray(sketches.starts)
        gone = _repeated(sketches, starts)
        owner = np.searchsorted(starts, gone, side="right") - 1
        cut_starts = np.searchsorted(owner, np.arange(len(sketches) + 1)).astype(np.int64)
        return Resolution(np.arange(len(sketches), dtype=np.int64), Ragged((gone - starts[owner]).astype(np.uint64), cut_starts))

    def _hash(self, unit: str) -> int:
        unit = unit.strip()
        if len(unit) < self.params.min_length:
            return SHORT
        if self.params.ignore_case:
            unit = unit.casefold()
        digest = hashlib.blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return max(int.from_bytes(digest, "little"), SHORT + 1)


class Paragraphs(_Units):
    """A paragraph ends with one or more blank lines, which belong to it and go with it."""

    pattern = PARAGRAPH


class Lines(_Units):
    """A line ends with its line feed; blank lines after it belong to it and go with it."""

    pattern = LINE


def _repeated(sketches: Ragged, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the units that an earlier document has, ascending: hashes of one range at a time, so that memory stays bounded."""
    ranges = 1 << (len(sketches.values) // AT_ONCE).bit_length()
    found = [_repeated_among(sketches.values, starts, _in_range(sketches, part, ranges)) for part in range(ranges)]
    return np.sort(np.concatenate(found))


def _in_range(sketches: Ragged, part: int, ranges: int) -> NDArray[np.int64]:
    """Positions of the hashes whose leading bits are `part`, ascending."""
    values = sketches.values
    shift = np.uint64(65 - ranges.bit_length())
    found = []
    for start in range(0, len(values), AT_ONCE):
        piece = values[start : start + AT_ONCE]
        chosen = piece != SHORT
        if ranges > 1:
            chosen &= piece >> shift == np.uint64(part)
        found.append(np.flatnonzero(chosen) + start)
        sketches.release()
    return np.concatenate([np.zeros(0, np.int64), *found])


def _repeated_among(values: Words, starts: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, which = np.unique(values[positions], return_index=True, return_inverse=True)
    owner = np.searchsorted(starts, positions, side="right")
    later: NDArray[np.int64] = positions[owner != owner[first][which.ravel()]]
    return later
