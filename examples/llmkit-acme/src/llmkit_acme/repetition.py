"""Small models repeat themselves. This says how much."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from llmkit import Document, Evaluator
from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, LanguageModel, Score

if TYPE_CHECKING:
    from llmkit_acme import RepetitionParams


class Repetition(Evaluator):
    """The share of word pairs in greedy continuations that stood in the same continuation before, a mean over documents."""

    params: RepetitionParams

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        prompts = {document.id: " ".join(document.text.split()[: self.params.words]) for document in documents or ()}
        if not prompts:
            raise UserError("evaluator acme.repetition needs documents to continue; give some with --data FILE")
        texts = lm.generate(list(prompts.values()), max_new_tokens=self.params.tokens)
        items = [{"id": name, "text": text, "repeated": repeated(text)} for name, text in zip(prompts, texts)]
        shares = [repeated(text) for text in texts]
        stderr = stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None
        return Evaluation([Score("repeated_pairs", fmean(shares), stderr, len(shares))], items)


def repeated(text: str) -> float:
    """Of all pairs of neighbouring words, the share that is no pair's first occurrence; 0 where there is no pair."""
    words = text.split()
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
