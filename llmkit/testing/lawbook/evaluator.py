"""Laws of evaluators, on the small model with the tokenizer of its spec."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation
from llmkit.core.interfaces.source import Document
from llmkit.model.language_model import ModelLM
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import LENGTH, Subject

DOCUMENTS = (
    Document("one", "A language model says how likely a text is."),
    Document("two", "short"),
    Document("three", "Text of many words that goes on for longer than the small model reads at once, so that it has to be cut."),
    Document("four", "naïve 世界"),
    Document("five", "the end, the end, the end"),
)


def scores_do_not_depend_on_the_batch_size(subject: Subject) -> None:
    """With 1, 2 and 16 rows computed at once, the scores are the same."""
    expected = _evaluate(subject, 16)
    for size in (1, 2):
        _equal(_evaluate(subject, size), expected, f"with batches of {size} and of 16")


def scores_are_the_same_every_time(subject: Subject) -> None:
    """Evaluated twice, also by another copy, a model has the same scores and items."""
    evaluator, lm = subject.make(), _lm(subject, 2)
    first = evaluator(lm, iter(DOCUMENTS))
    for other in (evaluator, subject.make()):
        _equal(other(lm, iter(DOCUMENTS)), first, "evaluated twice", tolerance=0.0)


def documents_are_read_once(subject: Subject) -> None:
    """Documents may be an iterator, are read at most once, and without any it says so or has data of its own."""
    evaluator, lm = subject.make(), _lm(subject, 2)
    _equal(evaluator(lm, _once()), evaluator(lm, list(DOCUMENTS)), "given as an iterator and as a list", tolerance=0.0)
    try:
        evaluator(lm, None)
    except UserError:
        return


def scores_are_well_formed(subject: Subject) -> None:
    """Metrics have different names, standard errors are at least 0 or None, n at least 1, and items are JSON with an `id`."""
    evaluation = _evaluate(subject, 2)
    names = [score.metric for score in evaluation.scores]
    if not names or len(set(names)) < len(names):
        raise LawBroken(f"the metrics are called {names}")
    for score in evaluation.scores:
        if (score.stderr is not None and not score.stderr >= 0) or score.n < 1:
            raise LawBroken(f"{score.metric} has the standard error {score.stderr} over {score.n} items")
    for item in evaluation.items:
        if "id" not in item:
            raise LawBroken(f"the item {item} has no id")
        try:
            json.dumps(item)
        except (TypeError, ValueError) as error:
            raise LawBroken(f"the item {item['id']!r} cannot be written as JSON: {error}") from error


def _evaluate(subject: Subject, batch_size: int) -> Evaluation:
    evaluation: Evaluation = subject.make()(_lm(subject, batch_size), iter(DOCUMENTS))
    return evaluation


def _lm(subject: Subject, batch_size: int) -> ModelLM:
    tokenizer = subject.spec().tokenizer
    made = tokenizer.component.resolve().train(tokenizer.params, [document.text for document in DOCUMENTS])
    return ModelLM(subject.model, made, seq_len=LENGTH, batch_size=batch_size)


def _equal(found: Evaluation, expected: Evaluation, when: str, *, tolerance: float = 1e-4) -> None:
    if [score.metric for score in found.scores] != [score.metric for score in expected.scores]:
        raise LawBroken(f"{when}, there are other metrics")
    for one, two in zip(found.scores, expected.scores):
        for name, a, b in (("value", one.value, two.value), ("standard error", one.stderr, two.stderr)):
            if not _close(a, b, tolerance):
                raise LawBroken(f"{when}, the {name} of {one.metric} is {a} and {b}")
    if [item.get("id") for item in found.items] != [item.get("id") for item in expected.items]:
        raise LawBroken(f"{when}, the items are others, or in another order")


def _close(a: float | None, b: float | None, tolerance: float) -> bool:
    if a is None or b is None or math.isnan(a) or math.isnan(b):
        return a is b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _once() -> Iterator[Document]:
    yield from DOCUMENTS


LAWS = (
    Law(scores_are_well_formed),
    Law(scores_do_not_depend_on_the_batch_size),
    Law(scores_are_the_same_every_time),
    Law(documents_are_read_once),
)
