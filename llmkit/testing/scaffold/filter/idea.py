"""Shouting: text of which too much is in capitals."""

from __future__ import annotations

from llmkit import Document, Drop, Filter, Limit
from llmkit.testing.scaffold.filter import IdeaParams


class Idea(Filter):
    """Drops a document by the part of its letters that are capitals."""

    params: IdeaParams

    def apply(self, document: Document) -> Document | Drop:
        """The document itself where it stays."""
        capitals = self.measure(document)["capitals"]
        return Drop("most", capitals, self.params.most) if capitals > self.params.most else document

    def measure(self, document: Document) -> dict[str, float]:
        """The number that is held against the limit: the report shows what another limit would have dropped."""
        letters = [letter for letter in document.text if letter.isalpha()]
        return {"capitals": sum(letter.isupper() for letter in letters) / max(len(letters), 1)}

    def limits(self) -> tuple[Limit, ...]:
        """Every threshold."""
        return (Limit("most", "capitals", most=self.params.most),)
