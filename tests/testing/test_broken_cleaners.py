"""Each law of the data kinds catches the mistake that it is meant for: components broken on purpose, one mistake each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmkit import Document, Drop, Extractor, Limit, Mixer, Params, Ragged, Resolution, Size, catalog
from llmkit.core.component import Component
from llmkit.core.kinds import Kind
from llmkit.plugins.extractors.components import ResiliparseParams
from llmkit.plugins.extractors.resiliparse import Resiliparse
from llmkit.testing import LawBroken, cases
from llmkit.testing.scaffold.deduplicator import IdeaParams as SameStartParams
from llmkit.testing.scaffold.deduplicator.idea import Idea as SameStart
from llmkit.testing.scaffold.filter import IdeaParams as ShoutingParams
from llmkit.testing.scaffold.filter.idea import Idea as Shouting


class Nothing(Params):
    """No parameters."""


PARAMS: Mapping[Kind, type[Params]] = {
    Kind.extractor: ResiliparseParams,
    Kind.filter: ShoutingParams,
    Kind.deduplicator: SameStartParams,
    Kind.mixer: Nothing,
}


def caught(kind: Kind, cls: type, law: str) -> str:
    """What the law says of a component made of this class."""
    component = Component(kind, "broken.one", PARAMS[kind], f"{__name__}:{cls.__qualname__}", "broken on purpose")
    for case in (case for case in cases([component], catalog()) if case.law.name == law):
        with pytest.raises(LawBroken) as broken:
            case()
        return str(broken.value)
    raise AssertionError(f"there is no law called {law}")


class Tags(Extractor):
    def extract(self, html: str, address: str = "") -> str:
        return html


class FirstOnly(Extractor):
    def extract(self, html: str, address: str = "") -> str:
        return Resiliparse(ResiliparseParams()).extract(html, address)[:300]


class Fragile(Resiliparse):
    def extract(self, html: str, address: str = "") -> str:
        if not html.strip():
            raise ValueError("nothing there")
        return super().extract(html, address)


class Counting(Resiliparse):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.pages = 0

    def extract(self, html: str, address: str = "") -> str:
        self.pages += 1
        return f"{super().extract(html, address)}{self.pages}"


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Tags, "what_no_reader_sees_is_left_out", "of the page's script or style"),
        (Tags, "what_a_reader_came_for_is_found", "there is a tag"),
        (FirstOnly, "what_a_reader_came_for_is_found", "paragraph 1 is not in"),
        (Fragile, "every_page_is_survived", "raises ValueError: nothing there"),
        (Counting, "the_same_page_has_the_same_text", "of another copy"),
    ],
)
def test_a_broken_extractor_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.extractor, cls, law)


class Renaming(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return replace(document, id=f"{document.id}-clean")


class Raising(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return Drop("most", 1 / len(document.text.split()))


class Moody(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return Drop("mood") if random.random() < 0.5 else document


class SeenBefore(Shouting):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.seen: set[str] = set()

    def apply(self, document: Document) -> Document | Drop:
        known = document.text in self.seen
        self.seen.add(document.text)
        return Drop("seen") if known else document


class Unordered(Shouting):
    def apply_batch(self, documents: Sequence[Document]) -> list[Document | Drop]:
        return super().apply_batch(documents)[::-1]


class Silent(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return Drop("")


class Unbounded(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return Drop("most", float("nan"), 0.5)


class Unmeasured(Shouting):
    def limits(self) -> tuple[Limit, ...]:
        return (Limit("most", "capital_letters", most=0.5),)


class Lenient(Shouting):
    def apply(self, document: Document) -> Document | Drop:
        return document


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Renaming, "every_document_meets_a_fate", "has the id 'law-0-clean'"),
        (Raising, "every_document_meets_a_fate", "raises ZeroDivisionError"),
        (Moody, "the_same_document_meets_the_same_fate", "of another copy"),
        (SeenBefore, "the_same_document_meets_the_same_fate", "then Drop"),
        (Unordered, "a_batch_is_each_document_by_itself", "in a batch is"),
        (Silent, "a_drop_says_why", "for the reason ''"),
        (Unbounded, "a_drop_says_why", "value nan"),
        (Unmeasured, "limits_are_those_that_decide", "'capital_letters', which is None"),
        (Lenient, "limits_are_those_that_decide", "outside of limit 'most'"),
    ],
)
def test_a_broken_filter_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.filter, cls, law)


class Signed(SameStart):
    def sketch(self, documents: Sequence[Document]) -> list[NDArray[Any]]:
        return [row.astype(np.int64) for row in super().sketch(documents)]


class ByName(SameStart):
    def sketch(self, documents: Sequence[Document]) -> list[NDArray[np.uint64]]:
        return [np.frombuffer(document.id.encode().ljust(32)[:32], "<u8") for document in documents]


class KeepsAll(SameStart):
    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        return Resolution(np.arange(len(sketches)))


class KeepsOne(SameStart):
    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        return Resolution(np.zeros(len(sketches), np.int64))


class Chained(SameStart):
    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        return Resolution(np.maximum(np.arange(len(sketches)) - 1, 0))


class Stripping(SameStart):
    def units(self, text: str) -> list[str]:
        return text.split("\n")


class Throwing(SameStart):
    def resolve(self, sketches: Ragged, sizes: NDArray[np.int64]) -> Resolution:
        keeper = super().resolve(sketches, sizes).keeper
        return Resolution(keeper if random.random() < 0.5 else np.arange(len(sketches)))


class Hopeful(SameStart):
    def match_rate(self, similarity: float) -> float | None:
        return 1 - similarity


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Signed, "a_sketch_is_of_one_document", "no row of uint64"),
        (ByName, "a_sketch_is_of_one_document", "under another id"),
        (KeepsAll, "a_copy_goes_and_one_stays", "there twice"),
        (KeepsOne, "what_has_nothing_in_common_stays", "without a word in common"),
        (Chained, "a_keeper_stays", "has another keeper"),
        (Stripping, "units_together_are_the_text", "the units of"),
        (Hopeful, "theory_is_a_probability", "match_rate of"),
    ],
)
def test_a_broken_deduplicator_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.deduplicator, cls, law)


def test_a_deduplicator_of_chance_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    flips = iter((0.0, 1.0))
    monkeypatch.setattr(random, "random", lambda: next(flips))
    assert "keepers are" in caught(Kind.deduplicator, Throwing, "resolving_again_gives_the_same")


class Greedy(Mixer):
    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        return dict.fromkeys(sizes, 1.0)


class Forgetful(Mixer):
    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        return {next(iter(sizes)): 1.0}


class FirstServed(Mixer):
    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        first = next(iter(sizes))
        return {name: float(name == first) for name in sizes}


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Greedy, "proportions_are_of_every_source_and_together_one", "no parts of a whole"),
        (Forgetful, "proportions_are_of_every_source_and_together_one", "have proportions of"),
        (FirstServed, "proportions_are_of_the_sizes_alone", "then"),
    ],
)
def test_a_broken_mixer_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.mixer, cls, law)
