"""Which documents a stretch of a token file comes from. Imports nothing heavy: a run is asked this long after it was trained."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple


class Passage(NamedTuple):
    """Tokens `[start, end)` of a document, counted from its first."""

    document: str
    start: int
    end: int


def locate(directory: Path, name: str, spans: Sequence[tuple[int, int]]) -> list[list[Passage]]:
    """For each span `[start, end)` of tokens, the documents that it comes from: of each the part that lies in it, its end-of-text included.

    The names of documents are read once, whatever the number of spans.
    """
    # Eight bytes a document, little-endian, as everything that llmkit runs on is: where each begins, and the file's end.
    with (directory / f"{name}.starts.bin").open("rb") as file:
        starts = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)).cast("Q")
    ranges = [(max(bisect_right(starts, start) - 1, 0), min(bisect_left(starts, end), len(starts) - 1)) for start, end in spans]
    names = _names(directory / f"{name}.ids.jsonl", {index for first, last in ranges for index in range(first, last)})
    return [
        [Passage(names[index], max(start - starts[index], 0), min(end, starts[index + 1]) - starts[index]) for index in range(first, last)]
        for (start, end), (first, last) in zip(spans, ranges, strict=True)
    ]


def _names(path: Path, wanted: set[int]) -> dict[int, str]:
    with path.open(encoding="utf-8") as file:
        return {index: json.loads(line) for index, line in enumerate(file) if index in wanted}
