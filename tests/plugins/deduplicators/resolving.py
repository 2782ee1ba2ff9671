"""The whole way of some texts through a deduplicator, as whoever prepares data goes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged, Resolution
from llmkit.core.interfaces.source import Document


def resolved(deduplicator: Deduplicator, texts: Sequence[str]) -> Resolution:
    rows = deduplicator.sketch([Document(str(number), text) for number, text in enumerate(texts)])
    starts = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    values = np.concatenate([np.zeros(0, np.uint64), *rows])
    return deduplicator.resolve(Ragged(values, starts), np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.int64))


def left(deduplicator: Deduplicator, texts: Sequence[str]) -> list[str]:
    """What is left of each text, where anything is."""
    keeper, cut = resolved(deduplicator, texts)
    remaining = []
    for index, text in enumerate(texts):
        gone = set() if cut is None else set(cut.row(index).tolist())
        rest = "".join(unit for number, unit in enumerate(deduplicator.units(text)) if number not in gone)
        if keeper[index] == index and rest:
            remaining.append(rest)
    return remaining
