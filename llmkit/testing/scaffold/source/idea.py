"""Sums of two numbers: text that can be made in any amount, and whose continuation is known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

from llmkit import Document, Source
from llmkit.testing.scaffold.source import IdeaParams


class Idea(Source):
    """A document for each pair of numbers, `3 + 4 = 7`, in order."""

    params: IdeaParams

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        """Every `of`-th document from number `shard` on, so that the shards together are the whole."""
        numbers = range(self.params.largest + 1)
        for one, two in islice(product(numbers, numbers), shard, None, of):
            yield Document(f"{one}+{two}", f"{one} + {two} = {one + two}", "my.idea")

    def fingerprint(self) -> str:
        """Another one whenever the documents are others: prepared data is kept under it."""
        return f"1:{self.params.largest}"
