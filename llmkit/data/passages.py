"""Which documents a stretch of a token file comes from. Imports nothing heavy: a run is asked this long after it was trained."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple


class Passage(NamedTuple):
    """Tokens `[start, end)` of a document, counted from its first."""

    document: str
    start: int
    end: int


class _Part(NamedTuple):
    """Tokens `[start, end)` of a document, which is known by its shard and its place there."""

    shard: int
    place: int
    start: int
    end: int


def locate(directory: Path, name: str, spans: Sequence[tuple[int, int]]) -> list[list[Passage]]:
    """For each span `[start, end)` of tokens, the documents that it comes from: of each the part that lies in it, its end-of-text included.

    Only the shards that a span lies in are opened, and the names of documents in them read once, whatever the number of spans.
    """
    shards = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))["shards"]
    first_tokens = list(accumulate((shard["tokens"] for shard in shards), initial=0))
    starts: dict[int, memoryview[int]] = {}
    found: list[list[_Part]] = []
    for start, end in spans:
        touched = range(bisect_right(first_tokens, start) - 1, min(bisect_left(first_tokens, end), len(shards)))
        for shard in touched:
            if shard not in starts:
                starts[shard] = _starts(directory / f"{shards[shard]['name']}.starts.bin")
        found.append(
            [part for shard in touched for part in _parts(shard, starts[shard], start - first_tokens[shard], end - first_tokens[shard])]
        )
    names = _names(directory, [shard["name"] for shard in shards], (part for parts in found for part in parts))
    return [[Passage(names[part.shard, part.place], part.start, part.end) for part in parts] for parts in found]


def read_names(path: Path, wanted: Collection[int]) -> dict[int, str]:
    """The names of these documents of one shard, by their place in it. It is read as far as the last of them."""
    last = max(wanted, default=-1)
    names: dict[int, str] = {}
    with path.open(encoding="utf-8") as file:
        for index, line in enumerate(file):
            if index > last:
                break
            if index in wanted:
                names[index] = json.loads(line)
    return names


def _starts(path: Path) -> memoryview[int]:
    # Eight bytes a document, little-endian, as everything that llmkit runs on is: where each begins, and the shard's end.
    with path.open("rb") as file:
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)).cast("Q")


def _parts(shard: int, starts: memoryview[int], start: int, end: int) -> Iterator[_Part]:
    """Of each document of a shard what lies in `[start, end)`, which may begin before the shard and end after it."""
    first, last = max(bisect_right(starts, start) - 1, 0), min(bisect_left(starts, end), len(starts) - 1)
    for index in range(first, last):
        begins, ends = starts[index], starts[index + 1]
        yield _Part(shard, index, max(start - begins, 0), min(end, ends) - begins)


def _names(directory: Path, shards: Sequence[str], parts: Iterator[_Part]) -> dict[tuple[int, int], str]:
    wanted: dict[int, set[int]] = defaultdict(set)
    for part in parts:
        wanted[part.shard].add(part.place)
    return {
        (shard, place): document
        for shard, places in wanted.items()
        for place, document in read_names(directory / f"{shards[shard]}.ids.jsonl", places).items()
    }
