"""Evaluators: what a trained model is worth, with how sure we are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer


class LogLikelihood(NamedTuple):
    """nats: ln p(continuation | context), summed; greedy: whether each token was the most likely one; tokens: how many."""

    nats: float
    greedy: bool
    tokens: int


class DocumentScore(NamedTuple):
    """id of the document; nats: -ln p of all its tokens, end-of-text included; tokens: how many; bytes: of its UTF-8 text."""

    id: str
    nats: float
    tokens: int
    bytes: int


class LanguageModel(Protocol):
    """A model as an evaluator sees it. Results do not depend on how the implementation batches."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def max_seq_len(self) -> int:
        """The longest sequence that the model reads at once, in tokens."""
        ...

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Each (context, continuation), in order. A context too long is cut on the left."""
        ...

    def stream(self, documents: Iterable[Document]) -> list[DocumentScore]:
        """All documents as one stream, joined by end-of-text, in consecutive windows of the training length; in order."""
        ...

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """A completion a prompt, in order."""
        ...


class Score(NamedTuple):
    """One number: the metric's name, its value, its standard error (None where it has none), and how many items it is over."""

    metric: str
    value: float
    stderr: float | None
    n: int


class Evaluation(NamedTuple):
    """scores: the numbers; items: one mapping an item, with at least `id`, that JSON can hold."""

    scores: list[Score]
    items: list[dict[str, Any]]


class Evaluator:
    """An evaluation, built with `(params)`. It is called on all ranks and returns the same on each."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        """Evaluate. `documents` is the run's validation text where the caller has it; one with data of its own ignores it.

        Raises `UserError` where it needs documents and there are none.
        """
        raise NotImplementedError
