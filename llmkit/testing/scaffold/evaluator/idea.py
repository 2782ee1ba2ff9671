"""Copying: of all documents, the share that is the model's most likely continuation of itself."""

from __future__ import annotations

from collections.abc import Iterable

from llmkit import Document, Evaluator
from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, LanguageModel, Score
from llmkit.testing.scaffold.evaluator import IdeaParams


class Idea(Evaluator):
    """The beginning of each document, given twice: is the second time what greedy decoding would say?"""

    params: IdeaParams

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        """All pairs in one call: batching is the model's business."""
        texts = {document.id: document.text[: self.params.characters] for document in documents or ()}
        if not texts:
            raise UserError("evaluator my.idea needs documents; give some with --data FILE")
        found = lm.loglikelihood([(f"{text}\n", text) for text in texts.values()])
        items = [{"id": name, "copied": score.greedy} for name, score in zip(texts, found)]
        n, rate = len(items), sum(score.greedy for score in found) / len(items)
        error = (rate * (1 - rate) / (n - 1)) ** 0.5 if n > 1 else None
        return Evaluation([Score("copied", rate, error, n)], items)
