"""Batches: which sequences are in a step, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.data.mixing import MixedOrder, Span
from llmkit.data.order import in_epochs
from llmkit.data.passages import Passage
from llmkit.data.tokens import TokenFile

Items = NDArray[np.int64]

PLACES = 1024
"""How many places of the order are looked up at a time: for so many it takes four times as long as for the four of a small step."""


class Batches:
    """Training sequences in a shuffled order that is a pure function of (seed, step).

    Sequence i is tokens [i T, (i+1) T] of the file, T + 1 of them: T inputs, and T targets one further on. All sequences are
    seen once an epoch, in an order of that epoch's own; what is left after the last whole sequence is not trained on.

    With proportions, every stretch of steps has as much of each source as they say (`MixedOrder`), and a source is gone through
    epoch by epoch. A sequence is a source's where all that it predicts is; one in which two sources meet is not trained on.
    """

    def __init__(
        self,
        tokens: TokenFile,
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        mask_documents: bool = False,
        proportions: Mapping[str, float] | None = None,
    ) -> None:
        """proportions  source -> its part of the sequences; as much as there is of each unless given

        Raises `UserError` where there is not one whole sequence, of the file or of a source that has a part.
        """
        self.tokens, self.seq_len, self.batch_size, self.seed, self.mask_documents = tokens, seq_len, batch_size, seed, mask_documents
        self._window: tuple[int, Items] | None = None
        self.n_sequences = (tokens.n_tokens - 1) // seq_len
        if self.n_sequences < 1:
            raise UserError(
                f"the training text has {tokens.n_tokens} tokens, and one sequence of train.seq_len {seq_len} needs {seq_len + 1}; "
                "give it more text or a smaller train.seq_len"
            )
        self.order = None if proportions is None else MixedOrder(self._source_items(proportions), proportions, seed=seed)

    def items(self, step: int) -> Items:
        """(batch_size,) int64: the sequences of the global batch of a step, whatever the ranks and the accumulation. Steps count from 0."""
        ahead = max(PLACES // self.batch_size, 1)
        window, within = divmod(step, ahead)
        if self._window is None or self._window[0] != window:
            self._window = (window, self._items(window * ahead, ahead).reshape(ahead, self.batch_size))
        items: Items = self._window[1][within]
        return items.copy()

    def _items(self, step: int, steps: int) -> Items:
        places = np.arange(step * self.batch_size, (step + steps) * self.batch_size, dtype=np.int64)
        if self.order is not None:
            return self.order.at(places)
        return in_epochs(places, self.n_sequences, seed=self.seed)

    def _source_items(self, proportions: Mapping[str, float]) -> dict[str, Span]:
        """The sequences of every source that has a part: their first input may be the end-of-text before its first document."""
        found = {}
        for one in self.tokens.sources:
            if not proportions.get(one.source):
                continue
            first = -(-(one.start - 1) // self.seq_len)
            count = (one.end - 1) // self.seq_len - first
            if count < 1:
                raise UserError(
                    f"data source {one.source!r} has {one.end - one.start} tokens, in which no whole sequence of train.seq_len "
                    f"{self.seq_len} lies; give it more text, a weight of 0 in data.mixer, or a smaller train.seq_len"
                )
            found[one.source] = Span(first, count)
        return found

    def batch(self, items: Items) -> Batch:
        """These sequences, in this order, on the CPU."""
        return read(self.tokens, items, self.seq_len, mask_documents=self.mask_documents)

    def locate(self, item: int) -> list[Passage]:
        """The documents that a sequence comes from, for whoever asks what was in a step."""
        return self.tokens.locate(item * self.seq_len, (item + 1) * self.seq_len + 1)


def read(tokens: TokenFile, items: Items, seq_len: int, *, mask_documents: bool = False) -> Batch:
    """Sequences by number, (B, T). One that the file ends in is filled up with end-of-text whose targets are ignored.

    With `mask_documents`, a document begins at the end-of-text before it, at position 0, and predicts the end-of-text after
    it: every target counts, and a document is read as generation starts one. Position 0 is otherwise the sequence's first
    token, of a document that began in an earlier sequence too.
    """
    rows = np.empty((len(items), seq_len + 1), np.int64)
    short = []
    for index, item in enumerate(items.tolist()):
        found = tokens.read(item * seq_len, (item + 1) * seq_len + 1)
        rows[index, : len(found)] = found
        if len(found) <= seq_len:
            rows[index, len(found) :] = tokens.eos_id
            short.append((index, max(len(found) - 1, 0)))
    # Copied as arrays, and then tensors: so a step's few short rows take a third of the time.
    ids, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
    for index, known in short:
        targets[index, known:] = IGNORED
    segments, positions = _documents(rows[:, :-1] == tokens.eos_id) if mask_documents else (None, None)
    return Batch(_tensor(ids), _tensor(targets), positions=positions, segments=segments, item_ids=_tensor(np.asarray(items, np.int64)))


def windows(
    tokens: TokenFile,
    seq_len: int,
    *,
    batch_size: int = 16,
    mask_documents: bool = False,
    limit: int | None = None,
    shard: int = 0,
    of: int = 1,
) -> Iterator[Batch]:
    """The file from its beginning, in consecutive windows: every token after the first is predicted exactly once.

    limit      only the first so many windows
    shard, of  every `of`-th window from `shard` on, for a rank of several
    """
    n_windows = -(-(tokens.n_tokens - 1) // seq_len)
    mine = np.arange(n_windows if limit is None else min(limit, n_windows), dtype=np.int64)[shard::of]
    for start in range(0, len(mine), batch_size):
        yield read(tokens, mine[start : start + batch_size], seq_len, mask_documents=mask_documents)


def _documents(begins: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """(B, T) document numbers within each row, and positions within each document. No text makes an end-of-text, so each is a boundary."""
    places = np.arange(begins.shape[1])
    segments = np.cumsum(begins, axis=1, dtype=np.int64)
    positions = places - np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    return _tensor(segments), _tensor(positions)


def _tensor(array: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
