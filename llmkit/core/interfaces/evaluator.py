"""Evaluators: what a trained model is worth, with how sure we are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    """A model as an evaluator sees it. Results do not depend on how the implementation batches, beyond rounding.

    Text in all of these is plain: a special token written in it is not made one. A sequence begins as training began one,
    with `tokenizer.bos_id`.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def max_seq_len(self) -> int:
        """The longest sequence that the model reads at once, in tokens."""
        ...

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Each (context, continuation), in order. A context too long is cut on the left.

        Both are tokenised as one text: a token that covers a character of the continuation belongs to it. An empty
        continuation has 0 nats and 0 tokens. `UserError` where a continuation alone is longer than `max_seq_len`.
        """
        ...

    def stream(self, documents: Iterable[Document]) -> list[DocumentScore]:
        """All documents as one stream, joined by end-of-text, in consecutive windows of the training length; in order."""
        ...

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """A completion a prompt, in order, without the prompt; at most `max_new_tokens`, fewer where the text ends. 0 is greedy.

        A prompt too long is cut on the left.
        """
        ...


class Score(NamedTuple):
    """One number.

    metric  its name, unique within the evaluation; with the unit where it has one (`bits_per_byte`)
    value   may be nan or infinite where that is what it is; JSON says null
    stderr  its standard error over the items, in the unit of the value; None where there is none (one item)
    n       how many independent items it is over: documents or questions, not tokens
    """

    metric: str
    value: float
    stderr: float | None
    n: int


class Evaluation(NamedTuple):
    """scores: the numbers; items: one mapping an item, with at least `id`, that JSON can hold."""

    scores: list[Score]
    items: list[dict[str, Any]]


class Evaluator:
    """An evaluation, built with `(params)`. It is called on all ranks and returns the same on each.

    Only `__call__` is to be written. It sees the model through `LanguageModel` alone, and needs no torch. Ask for all items in
    one call of `loglikelihood` or `generate`: batching is the model's business. Whatever is random in it has a seed among its
    parameters.

    A whole one, with the component that its plugin's hook returns:

        class CopyingParams(Params):
            words: int = Field(8, ge=1, description="words to repeat")

        class Copying(Evaluator):
            def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
                if documents is None:
                    raise UserError("evaluator acme.copying needs documents; give some with --data FILE")
                texts = {document.id: " ".join(document.text.split()[: self.params.words]) for document in documents}
                if not texts:
                    raise UserError("evaluator acme.copying got no documents; give some with --data FILE")
                found = lm.loglikelihood([(f"{text}\\n", text) for text in texts.values()])
                items = [{"id": name, "copied": score.greedy} for name, score in zip(texts, found)]
                n, rate = len(items), sum(item["copied"] for item in items) / len(items)
                error = (rate * (1 - rate) / (n - 1)) ** 0.5 if n > 1 else None
                return Evaluation([Score("copied", rate, error, n)], items)

        Component(Kind.evaluator, "acme.copying", CopyingParams, "llmkit_acme.evals:Copying", "how often a text is repeated word for word")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        """Evaluate.

        documents  the run's validation text where the caller has it, to be read once; one with data of its own ignores it

        Scores come in the order in which a person should read them, items in that of the data. Raises `UserError` where it
        needs documents and there are none.
        """
        raise NotImplementedError

    def references(self) -> Iterator[Document]:
        """The texts of its own items, questions with their answers, which must not be trained on: for decontamination.

        Each with an id of its own. Nothing where it has no items of its own, which is so unless written.
        """
        return iter(())
