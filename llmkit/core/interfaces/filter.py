"""Filters: which documents stay, and what is rewritten in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from llmkit.core.component import Params
from llmkit.core.interfaces.source import Document


class FilterParams(Params):
    """What every filter takes besides its own parameters. A filter whose parameters do not derive from this sees all documents."""

    sources: list[str] | None = Field(None, description="only documents of these of data.sources, by name; of all unless given")


@dataclass(frozen=True)
class Drop:
    """A document is left out.

    reason  why, in few words that are the same for all documents left out for it: the parameter that says so, `min_words`
    value   what was measured, where a number was
    limit   what it was held against
    """

    reason: str
    value: float | None = None
    limit: float | None = None


class Limit(NamedTuple):
    """A threshold, for the report of how sensitive the result is to it.

    parameter  the parameter that sets it: also the `reason` of what it drops
    statistic  which number of `Filter.measure` is held against it
    least      a document with less is dropped; None where it is no lower limit
    most       a document with more is dropped; None where it is no upper limit
    """

    parameter: str
    statistic: str
    least: float | None = None
    most: float | None = None


class Filter:
    """Keeps a document, drops it with a reason, or rewrites it. Built with `(params)`; plain Python, no torch.

    Only `apply` is to be written. It is a function of the document alone, so that any number of processes may run it.

    A whole one, with the component that its plugin's hook returns:

        class ShortLinesParams(FilterParams):
            least: float = Field(20.0, ge=0, description="characters of a line, on average, that a document must have")

        class ShortLines(Filter):
            def apply(self, document: Document) -> Document | Drop:
                mean = self.measure(document)["line_length"]
                return Drop("least", mean, self.params.least) if mean < self.params.least else document

            def measure(self, document: Document) -> dict[str, float]:
                lines = document.text.splitlines() or [""]
                return {"line_length": sum(map(len, lines)) / len(lines)}

            def limits(self) -> tuple[Limit, ...]:
                return (Limit("least", "line_length", least=self.params.least),)

        Component(Kind.filter, "acme.short_lines", ShortLinesParams, "llmkit_acme.short_lines:ShortLines", "drops text of short lines")
    """

    learns: ClassVar[bool] = False
    """Whether `learn` is to be called before the first document."""
    reads_references: ClassVar[bool] = False
    """Whether `learn` reads the references, so that what was filtered is filtered again where they change."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def apply(self, document: Document) -> Document | Drop:
        """The same document where it stays, another with the same id where it is rewritten, a `Drop` where it goes.

        It raises for no text. A text that is rewritten to nothing is dropped by whoever calls.
        """
        raise NotImplementedError

    def apply_batch(self, documents: Sequence[Document]) -> list[Document | Drop]:
        """As `apply`, for many documents, in order; override where that is faster."""
        return [self.apply(document) for document in documents]

    def measure(self, document: Document) -> Mapping[str, float]:
        """The numbers that the limits are held against, for the report; none unless written."""
        return {}

    def limits(self) -> Sequence[Limit]:
        """Every threshold; none unless written."""
        return ()

    def fingerprint(self) -> str:
        """Changes whenever the same document may meet another fate with the same parameters: files that it reads, a model's version."""
        return ""

    def learn(self, directory: Path, references: Iterable[Document]) -> dict[str, Any]:
        """Called once, where `learns`: write what `load` needs into this empty directory.

        references  what must not be trained on: the items of the spec's evaluators (`source` is the evaluator's name) and the held-out
                    text (`source` is `holdout`)
        return      figures for the report that JSON can hold: a classifier's held-out accuracy
        """
        raise NotImplementedError

    def load(self, directory: Path) -> None:
        """Take up what `learn` wrote; called in every process before its first document, where `learns`."""
        raise NotImplementedError
