"""A trained model as an evaluator sees it: text in, log-likelihoods and completions out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import DocumentScore, LogLikelihood
from llmkit.core.interfaces.objective import Batch
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.model.decoder import Decoder
from llmkit.model.generate import evaluating, generate

T = TypeVar("T")

HEAD_LOGITS = 1 << 24
"""Logits that exist at once: with a large vocabulary, those of a whole batch would be the largest tensor by far."""

ENCODED_DOCUMENTS = 256
"""Documents that are tokenised in one call."""


class Row(NamedTuple):
    """A text to score: its ids, of which the last `scored` are the continuation's."""

    ids: list[int]
    scored: int

    @property
    def read(self) -> list[int]:
        """What the model reads: all but the last, which it only predicts."""
        return self.ids[:-1]


class ModelLM:
    """Implements `core.interfaces.evaluator.LanguageModel` for a model in memory, where it lies and in its own dtype.

    seq_len         the training length: windows of `stream`
    batch_size      rows computed at once; it changes no result beyond rounding
    mask_documents  whether training hid the documents of a window from each other: then `stream` does
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, seq_len: int, batch_size: int = 16, mask_documents: bool = False) -> None:
        self.model = model
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.mask_documents = mask_documents
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def max_seq_len(self) -> int:
        return self.model.spec.model.max_seq_len

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Each (context, continuation), in order.

        Both are tokenised as one text, after the token that begins a sequence; a token that covers any character of the
        continuation belongs to it. `UserError` where a continuation alone is longer than the model reads.
        """
        rows = [self._row(context, continuation) for context, continuation in pairs]
        results = [LogLikelihood(0.0, True, 0)] * len(rows)
        groups = self._read_together(rows)
        # Rows of like length together, the longest first: little padding, and too large a batch fails at once.
        groups.sort(key=lambda group: -len(rows[group[0]].ids))
        with evaluating(self.model):
            for chunk in _chunks(groups, self.batch_size):
                scored = self._score([[rows[index] for index in group] for group in chunk])
                for index, result in zip(chain.from_iterable(chunk), scored, strict=True):
                    results[index] = result
        return results

    def _read_together(self, rows: Sequence[Row]) -> list[list[int]]:
        """The rows that have something to score, in groups: what the first of a group reads begins with what each other of it reads.

        A token is read by those after it alone, so that one pass serves a group: a text asked at many places, or the options for one
        place. Not where an encoding depends on how long the whole text is, which is why it refuses a cache.
        """
        scored = [index for index, row in enumerate(rows) if row.scored]
        if self.model.refuses_cache(self.max_seq_len) is not None:
            return [[index] for index in scored]
        groups: list[list[int]] = []
        # In this order, what begins with a row stands right before it.
        for index in sorted(scored, key=lambda index: rows[index].read, reverse=True):
            read = rows[index].read
            if groups and rows[groups[-1][0]].read[: len(read)] == read:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _row(self, context: str, continuation: str) -> Row:
        """The ids, cut on the left to what the model reads and the one that it predicts last, and how many are the continuation's."""
        ids, spans = self.tokenizer.encode_offsets(context + continuation)
        first = next((index for index, (_, end) in enumerate(spans) if end > len(context)), len(ids))
        count = len(ids) - first
        if count > self.max_seq_len:
            raise UserError(
                f"a continuation of {count} tokens is longer than the {self.max_seq_len} that the model reads at once: "
                f"{continuation[:40]!r}...; shorten it, or score it with `stream`"
            )
        return Row([self.tokenizer.bos_id, *ids][-self.max_seq_len - 1 :], count)

    def _score(self, groups: Sequence[Sequence[Row]]) -> list[LogLikelihood]:
        """Every row of every group, in order: one line of the batch is what the first row of a group reads."""
        device = _device(self.model)
        width = max(len(group[0].read) for group in groups)
        ids = torch.full((len(groups), width), self.tokenizer.pad_id)
        positions = torch.full_like(ids, -1)
        lines: list[int] = []
        places: list[int] = []
        wanted: list[int] = []
        for line, group in enumerate(groups):
            read = group[0].read
            ids[line, : len(read)] = torch.tensor(read)
            positions[line, : len(read)] = torch.arange(len(read))
            for row in group:
                lines += [line] * row.scored
                places += range(len(row.read) - row.scored, len(row.read))
                wanted += row.ids[-row.scored :]
        h, _ = self.model.features(Batch(ids.to(device), torch.zeros_like(ids).to(device), positions.to(device)))
        nats, greedy = token_nats(self.model, h[lines, places], torch.tensor(wanted, device=device))
        counts = [row.scored for group in groups for row in group]
        return [
            LogLikelihood(-float(part.double().sum()), bool(best.all()), len(part))
            for part, best in zip(torch.split(nats.cpu(), counts), torch.split(greedy.cpu(), counts), strict=True)
        ]

    def stream(self, documents: Iterable[Document]) -> list[DocumentScore]:
        """All documents as one stream, in consecutive windows of the training length; one score a document, in order.

        The stream is `eos d1 eos d2 eos ...`: the first separator stands before the first document, so that every token of
        every document is predicted exactly once, and each document's own end-of-text with it.
        """
        ids = [self.tokenizer.eos_id]
        heads: list[tuple[str, int, int]] = []
        for some in _chunks(documents, ENCODED_DOCUMENTS):
            for document, encoded in zip(some, self.tokenizer.encode_batch([document.text for document in some]), strict=True):
                ids += [*encoded, self.tokenizer.eos_id]
                heads.append((document.id, len(encoded) + 1, len(document.text.encode("utf-8", "surrogatepass"))))
        separator = self.tokenizer.eos_id if self.mask_documents else None
        nats = stream_nats(self.model, torch.tensor(ids), seq_len=self.seq_len, batch_size=self.batch_size, separator=separator).double()
        parts = torch.split(nats, [tokens for _, tokens, _ in heads])
        return [DocumentScore(name, float(part.sum()), tokens, size) for (name, tokens, size), part in zip(heads, parts, strict=True)]

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """A completion a prompt, in order. A prompt too long is cut on the left."""
        room = max(self.max_seq_len - max_new_tokens, 1)
        starts = [[self.tokenizer.bos_id, *ids][-room:] for ids in self.tokenizer.encode_batch(prompts)]
        # Equal prompts go into different calls, each with a seed of its own: what a row gets does not depend on its batch.
        times = _occurrences(starts)
        completions = [""] * len(starts)
        order = sorted(range(len(starts)), key=lambda index: (times[index], -len(starts[index])))
        for time, some in groupby(order, key=times.__getitem__):
            for chunk in _chunks(some, self.batch_size):
                made = generate(
                    self.model,
                    [starts[index] for index in chunk],
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=seed + (time << 32),
                    stop_ids=self.tokenizer.stop_ids,
                    vocab_limit=self.tokenizer.vocab_size,
                )
                for index, ids in zip(chunk, made, strict=True):
                    completions[index] = self.tokenizer.decode(ids)
        return completions


def stream_nats(model: Decoder, tokens: Tensor, *, seq_len: int, batch_size: int, separator: int | None = None) -> Tensor:
    """-ln p of every token but the first of a stream: tokens (N,) int64 -> (N - 1,) fp32 on the CPU.

    Window i predicts tokens i seq_len + 1 .. (i + 1) seq_len from tokens i seq_len on; the last one may be shorter. With a
    `separator`, each document is hidden from the others and counts its positions from the separator before it.
    """
    device = _device(model)
    span = seq_len * batch_size
    parts = []
    with evaluating(model):
        for start in range(0, len(tokens) - 1, span):
            for window in _rectangles(tokens[start : start + span + 1], seq_len):
                ids, targets = (part.to(device) for part in window)
                h, _ = model.features(Batch(ids, targets) if separator is None else _masked(ids, targets, separator))
                parts.append(token_nats(model, h.flatten(0, 1), targets.flatten())[0].cpu())
    return torch.cat(parts) if parts else torch.zeros(0)


def _rectangles(tokens: Tensor, seq_len: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole windows of a piece of the stream as ids and targets (W, seq_len), then what is left, (1, rest)."""
    whole = (len(tokens) - 1) // seq_len * seq_len
    if whole:
        yield tokens[:whole].view(-1, seq_len), tokens[1 : whole + 1].view(-1, seq_len)
    if whole + 1 < len(tokens):
        yield tokens[None, whole:-1], tokens[None, whole + 1 :]


def _masked(ids: Tensor, targets: Tensor, separator: int) -> Batch:
    begins = ids == separator
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    starts = torch.where(begins, places, 0).cummax(dim=1).values
    return Batch(ids, targets, positions=places - starts, segments=begins.cumsum(dim=1))


def token_nats(model: Decoder, h: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) and targets (N,) -> -ln p of each target (N,) in fp32, and whether none was likelier (N,)."""
    nats, greedy = [], []
    rows = max(HEAD_LOGITS // model.spec.vocab_size, 1)
    for states, wanted in zip(torch.split(h, rows), torch.split(targets, rows), strict=True):
        log_p = F.log_softmax(model.head(states), dim=-1, dtype=torch.float32)
        chosen = log_p.gather(-1, wanted[:, None])[:, 0]
        nats.append(-chosen)
        greedy.append(chosen == log_p.amax(dim=-1))
    return torch.cat(nats), torch.cat(greedy)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _occurrences(rows: Sequence[Sequence[int]]) -> list[int]:
    """For each row, how many equal ones stand before it."""
    earlier: Counter[tuple[int, ...]] = Counter()
    counts = []
    for row in map(tuple, rows):
        counts.append(earlier[row])
        earlier[row] += 1
    return counts


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
