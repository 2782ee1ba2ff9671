"""Offensive text, by a published classifier."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.learned_components import ToxicityParams

PACKAGE = "alt-profanity-check"


class Toxicity(Filter):
    """Drops a document where more than `most` of its passages, of `words` words each, have a probability of `probability` or more to be
    offensive by alt-profanity-check: a linear classifier of single words, learned from 200,000 tweets and comments.

    Those are a line or two long, and a longer text has more of everything: so a document is cut into passages as long as they are. It
    takes insults, oaths and sex for offensive whoever speaks them, in a novel or a medical text as in a tweet, and it knows English
    only. For another language or another idea of what is toxic, let `quality` learn from labelled text.
    """

    params: ToxicityParams

    def __init__(self, params: ToxicityParams) -> None:
        super().__init__(params)
        self._probabilities = _published()

    def apply(self, document: Document) -> Document | Drop:
        return self.apply_batch([document])[0]

    def apply_batch(self, documents: Sequence[Document]) -> list[Document | Drop]:
        return [self._fate(document, part) for document, part in zip(documents, self._toxic(documents), strict=True)]

    def measure(self, document: Document) -> Mapping[str, float]:
        return {"toxic_passages": self._toxic([document])[0]}

    def limits(self) -> tuple[Limit, ...]:
        return (Limit("most", "toxic_passages", most=self.params.most),)

    def fingerprint(self) -> str:
        return f"{PACKAGE} {version(PACKAGE)}"

    def _fate(self, document: Document, part: float) -> Document | Drop:
        return Drop("most", part, self.params.most) if part > self.params.most else document

    def _toxic(self, documents: Sequence[Document]) -> list[float]:
        """The part of each document's passages that are toxic."""
        passages = [list(_passages(document.text, self.params.words)) for document in documents]
        flat = [passage for some in passages for passage in some]
        toxic = self._probabilities(flat) >= self.params.probability if flat else np.zeros(0)
        ends = np.cumsum([len(some) for some in passages])
        return [float(some.mean()) if len(some) else 0.0 for some in np.split(toxic, ends[:-1])] if len(documents) else []


def _passages(text: str, words: int) -> Iterator[str]:
    every = text.split()
    for start in range(0, len(every), words):
        yield " ".join(every[start : start + words])


def _published() -> Any:
    """Texts -> probabilities. The package reads its pickled classifier when it is imported; each release is made with one scikit-learn."""
    try:
        from sklearn.exceptions import InconsistentVersionWarning

        installed = version(PACKAGE)
    except (ImportError, PackageNotFoundError) as error:
        raise UserError(f"filter toxicity needs {PACKAGE}, which is not installed ({error}); pip install 'llmkit[toxicity]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", InconsistentVersionWarning)
            from profanity_check import predict_prob
    except (ImportError, AttributeError, InconsistentVersionWarning) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"filter toxicity cannot use {PACKAGE} {installed} with this scikit-learn ({reason}); pip install 'llmkit[toxicity]'"
        ) from None
    return predict_prob
