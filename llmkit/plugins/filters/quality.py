"""A quality classifier that learns from examples of your own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import PLAIN, Broken, Document
from llmkit.plugins.filters.classifier import Classifier, Fit, learn
from llmkit.plugins.filters.hashed_ngrams import HashedNgrams
from llmkit.plugins.filters.learned_components import QualityParams, Value

LEARNED = 1
"""Raised when the same examples make another classifier."""


@dataclass
class _Examples:
    """Texts of one side, each once, and how many records were left out: no documents, blank, or there already."""

    texts: list[str] = field(default_factory=list)
    broken: int = 0
    repeated: int = 0


class Quality(Filter):
    """Keeps a document where p(wanted | text) >= `threshold`:

        p = 1 / (1 + exp(-(a (w . x + b) + c)))

    with x the text's hashed n-grams (`HashedNgrams`), w and b of a logistic regression on the examples, and a and c of a calibration on
    scores of examples that were held out (`classifier.learn`). p is a probability among documents mixed as the examples are: where there
    are as many wanted as unwanted examples, and fewer in the source, it is too high for the source.

    With `keep`, the threshold is where so large a part of `negative`, held out, would be kept: what DCLM did to Common Crawl with a
    tenth (arXiv 2406.11794), `negative` being a sample of the source itself. A text that is on both sides counts as wanted.
    """

    learns = True
    params: QualityParams

    def __init__(self, params: QualityParams) -> None:
        super().__init__(params)
        self._features = HashedNgrams(params.characters, params.words, params.bits, params.read)
        self._parameter = "threshold" if params.keep is None else "keep"
        self._classifier: Classifier | None = None

    def apply(self, document: Document) -> Document | Drop:
        threshold, probability = self._learned.threshold, self._probability(document)
        return Drop(self._parameter, probability, threshold) if probability < threshold else document

    def measure(self, document: Document) -> Mapping[str, float]:
        return {"quality": self._probability(document)}

    def limits(self) -> tuple[Limit, ...]:
        return (Limit(self._parameter, "quality", least=self._learned.threshold),)

    def fingerprint(self) -> str:
        """Of the sources that it learns from."""
        sides = [chosen.make().fingerprint() for chosen in (self.params.positive, self.params.negative)]
        return hashlib.sha256(repr((LEARNED, sides)).encode()).hexdigest()[:16]

    def learn(self, directory: Path, references: Iterable[Document]) -> dict[str, Any]:
        """Fit, calibrate, and write the classifier. `UserError` where a side has fewer examples than there are folds.

        The figures are those of `classifier.HeldOut`, with the number of examples on each side and of records that were left out.
        """
        params = self.params
        seen: set[bytes] = set()
        positive = self._examples("positive", params.positive, params.positive_where, seen)
        negative = self._examples("negative", params.negative, params.negative_where, seen)
        texts = positive.texts + negative.texts
        labels = np.arange(len(texts)) < len(positive.texts)
        fit = Fit(params.c, params.folds, params.seed, params.threshold, params.keep)
        classifier, held_out = learn(self._features, texts, labels, fit)
        classifier.save(directory)
        return {
            "positive": len(positive.texts),
            "negative": len(negative.texts),
            "repeated": positive.repeated + negative.repeated,
            "broken": positive.broken + negative.broken,
            **asdict(held_out),
        }

    def load(self, directory: Path) -> None:
        self._classifier = Classifier.load(directory)

    @property
    def _learned(self) -> Classifier:
        if self._classifier is None:
            raise RuntimeError("filter quality is asked before it has loaded what it learned")
        return self._classifier

    def _probability(self, document: Document) -> float:
        return self._learned.probability(self._features, document.text)

    def _examples(self, side: str, chosen: Chosen, where: Mapping[str, Value], seen: set[bytes]) -> _Examples:
        found = _Examples()
        for record in chosen.make().documents(0, 1):
            if isinstance(record, Broken):
                found.broken += 1
                continue
            if not _has(record, where):
                continue
            text = self._text(side, record)
            digest = hashlib.sha256(text.strip().encode("utf-8", "replace")).digest()[:16]
            if not text.strip() or digest in seen:
                found.repeated += 1
                continue
            seen.add(digest)
            found.texts.append(text)
            if len(found.texts) == self.params.examples:
                break
        if len(found.texts) < self.params.folds:
            raise UserError(
                f"filter quality: {side} ({chosen.type}) has {len(found.texts)} different documents"
                f"{f' with {dict(where)}' if where else ''}, and {self.params.folds} folds need one each; give more, or fewer folds"
            )
        return found

    def _text(self, side: str, document: Document) -> str:
        if document.media_type == PLAIN:
            return document.text
        if self.params.extractor is None:
            raise UserError(
                f"filter quality: {document.id!r} in {side} is {document.media_type}, not text; say which `extractor` makes text of it"
            )
        return str(self.params.extractor.make().extract(document.text, str(document.meta.get("url", ""))))


def _has(document: Document, where: Mapping[str, Value]) -> bool:
    return all(name in document.meta and str(document.meta[name]) == str(value) for name, value in where.items())
