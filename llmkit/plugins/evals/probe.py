"""Probes: exercises whose answers are known, asked of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, Evaluator, LanguageModel, LogLikelihood, Score
from llmkit.core.interfaces.source import Document
from llmkit.plugins.evals.perplexity import ratio
from llmkit.plugins.tasks.task import Answer, Instance, Task, asked


class Reply(NamedTuple):
    """What a model made of one answer.

    right  1 where it would have written it, or would have chosen it among its options; with several equally likely, its share; else 0
    nats   -ln p of the answer; of one with options, among these
    """

    answer: Answer
    right: float
    nats: float


Replies = list[list[Reply]]
"""For every instance, the replies to its answers."""


class Probe(Evaluator):
    """A task's held-out instances, drawn from the probe's own seed, none of which any source ever writes. Documents are ignored.

        accuracy  part of the answers that are right: the model's likeliest token (of several, each), or its likeliest option
        exact     part of the instances whose answers are all right
        loss      -ln p of an answer: nats an answer
        chance    the accuracy of guessing among the symbols that are answers

    Answers of one instance are alike, so that an instance is a cluster, and `n` counts instances (see `ratio`). All answers of an instance
    are read in one pass of the model, where it knows that one text begins another. `UserError` where an instance is longer than the model
    reads, or the tokenizer makes one id of two symbols.
    """

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        task: Task = self.params
        check_tokenizer(lm, task)
        instances = asked(task, self.params.seed, self.params.instances)
        tokens = longest(lm, task, instances)
        if tokens > lm.max_seq_len:
            raise UserError(
                f"an instance of this probe has {tokens} tokens, and the model reads {lm.max_seq_len} at once; "
                "ask for a shorter one in the evaluator's parameters, or raise model.max_seq_len"
            )
        replies = ask(lm, task, instances)
        scores = [
            accuracy("accuracy", replies),
            Score("exact", *mean([float(all(reply.right == 1 for reply in some)) for some in replies]), len(replies)),
            *self.further(lm, instances, replies),
            loss(replies),
            Score("chance", task.chance, None, len(replies)),
        ]
        return Evaluation(scores, items(task, instances, replies))

    def references(self) -> Iterator[Document]:
        """The instances, which no source of the same task writes, and which text from elsewhere may have all the same."""
        return as_documents(self.params, asked(self.params, self.params.seed, self.params.instances))

    def further(self, lm: LanguageModel, instances: Sequence[Instance], replies: Replies) -> list[Score]:
        """What a probe reports besides."""
        return []


def ask(lm: LanguageModel, task: Task, instances: Sequence[Instance]) -> Replies:
    """The replies of a model, all asked for in one call."""
    pairs = [pair for instance in instances for answer in instance.answers for pair in _pairs(task, instance, answer)]
    found = iter(lm.loglikelihood(pairs))
    return [[_reply(instance, answer, found) for answer in instance.answers] for instance in instances]


def _pairs(task: Task, instance: Instance, answer: Answer) -> list[tuple[str, str]]:
    context = instance.before(answer.place, task.separator)
    return [(context, symbol) for symbol in answer.options or (instance.symbols[answer.place],)]


def _reply(instance: Instance, answer: Answer, found: Iterator[LogLikelihood]) -> Reply:
    if not answer.options:
        one = next(found)
        return Reply(answer, float(one.greedy), -one.nats)
    nats = [one.nats for one in islice(found, len(answer.options))]
    best, own = max(nats), nats[answer.options.index(instance.symbols[answer.place])]
    right = 1 / nats.count(best) if own == best else 0.0
    return Reply(answer, right, best + math.log(math.fsum(math.exp(one - best) for one in nats)) - own)


def accuracy(metric: str, replies: Replies, counts: Callable[[Answer], bool] = lambda answer: True) -> Score:
    """The part of the answers that are right, of those that count."""
    kept = [[reply.right for reply in some if counts(reply.answer)] for some in replies]
    return Score(metric, *ratio([math.fsum(some) for some in kept], [len(some) for some in kept]), len(kept))


def loss(replies: Replies) -> Score:
    """Nats an answer."""
    nats = [math.fsum(reply.nats for reply in some) for some in replies]
    return Score("loss", *ratio(nats, [len(some) for some in replies]), len(replies))


def mean(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of independent values and its standard error; None of a single one."""
    return ratio(values, [1] * len(values))


def items(task: Task, instances: Sequence[Instance], replies: Replies, prefix: str = "") -> list[dict[str, Any]]:
    """What was asked and what came of it, an instance each: for every answer, how far back what determines it stands, whether it is right,
    and its nats (None where they are no number)."""
    return [
        {
            "id": f"{prefix}{index}",
            "text": instance.text(task.separator),
            "distances": [reply.answer.distance for reply in some],
            "right": [reply.right for reply in some],
            "nats": [reply.nats if math.isfinite(reply.nats) else None for reply in some],
        }
        for index, (instance, some) in enumerate(zip(instances, replies, strict=True))
    ]


def as_documents(task: Task, instances: Sequence[Instance], prefix: str = "") -> Iterator[Document]:
    """The text of each instance, under the id that it has among the items."""
    return (Document(f"{prefix}{index}", instance.text(task.separator)) for index, instance in enumerate(instances))


def longest(lm: LanguageModel, task: Task, instances: Sequence[Instance]) -> int:
    """Tokens of the longest instance: what a model has to read, with the token that begins a sequence and without the last one."""
    return max(map(len, lm.tokenizer.encode_batch([instance.text(task.separator) for instance in instances])))


def check_tokenizer(lm: LanguageModel, task: Task) -> None:
    """`UserError` where the tokenizer makes the same ids of two symbols."""
    known: dict[tuple[int, ...], str] = {}
    for symbol in task.alphabet:
        ids = tuple(lm.tokenizer.encode(task.separator + symbol))
        other = known.setdefault(ids, symbol)
        if other != symbol:
            raise UserError(
                f"the tokenizer makes the same ids of {other!r} and {symbol!r}, which are two symbols of this probe; take bytes or bpe"
            )
