"""Filters over a shard: what each does, against doing it by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.component import Chosen, Component, Params
from llmkit.core.interfaces.extractor import Extractor
from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import HTML, PLAIN, Document
from llmkit.core.kinds import Kind
from llmkit.data.accounting import ShardAccount
from llmkit.data.cleaning import Cleaning, FilterStage
from llmkit.data.document_shards import Row, ShardWriter, read_groups
from llmkit.data.split import place_of
from llmkit.data.workers import Task


class WithoutParams(Params):
    """Which letter."""

    letter: str = "a"


class Without(Filter):
    """Drops documents that have a letter."""

    def apply(self, document: Document) -> Document | Drop:
        count = document.text.count(self.params.letter)
        return Drop(f"has {self.params.letter}", count, 0) if count else document

    def measure(self, document: Document) -> dict[str, float]:
        return {"count": document.text.count(self.params.letter), "unused": 1.0}

    def limits(self) -> tuple[Limit, ...]:
        return (Limit("letter", "count", most=0),)


class Cutting(Filter):
    """Takes a letter out."""

    def apply(self, document: Document) -> Document | Drop:
        text = document.text.replace(self.params.letter, "")
        return document if text == document.text else replace(document, text=text, meta={"cut": True})


class Inner(Extractor):
    """What is between the first `>` and the next `<`."""

    def extract(self, html: str, address: str = "") -> str:
        return html.partition(">")[2].partition("<")[0] + address


def stage(kind: str, letter: str) -> FilterStage:
    component = Component(Kind.filter, f"test.{kind}", WithoutParams, f"test_cleaning:{kind}", "x")
    return FilterStage(f"{kind.lower()}_{letter}", Chosen(component, WithoutParams(letter=letter)))


def cleaned(directory: Path, documents: list[Document], *filters: FilterStage, **facts: Any) -> tuple[list[Row], ShardAccount]:
    path = directory / "in.parquet"
    with ShardWriter(path) as writer:
        for document in documents:
            writer.add(Row(document, 0 if document.media_type == HTML else place_of(document.text)))
    Cleaning((path,), facts.get("extractor"), filters, facts.get("measured", 1.0)).run(directory, Task(0))
    account = ShardAccount.model_validate_json((directory / "00000.json").read_text())
    return [row for rows in read_groups(directory / "00000.parquet") for row in rows], account


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abcx", min_size=1, max_size=4).map(lambda text: text + "."), min_size=1, max_size=30))
def test_each_filter_is_told_what_only_it_drops_and_what_it_shares(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    rows, account = cleaned(tmp_path_factory.mktemp("c"), documents, *(stage("Without", letter) for letter in "abc"))
    assert [row.document.text for row in rows] == [text for text in texts if not set("abc") & set(text)]
    left = texts
    for index, letter in enumerate("abc"):
        told = account.stages[f"filters.without_{letter}"]
        gone = [text for text in left if letter in text]
        assert told.before.documents == len(left) and told.removed == len(gone) == sum(told.reasons.values())
        assert told.before.bytes == sum(map(len, left))
        left = [text for text in left if letter not in text]
        assert told.after.documents == len(left) and told.after.bytes == sum(map(len, left))
        later = "abc"[index + 1 :]
        assert told.only == sum(not set(later) & set(text) for text in gone)
        shared = Counter(f"without_{other}" for text in gone for other in later if other in text)
        assert told.shared == shared


def test_a_filter_sees_what_the_one_before_it_rewrote(tmp_path: Path) -> None:
    documents = [Document("1", "ab"), Document("2", "a"), Document("3", "bc"), Document("4", "ca")]
    rows, account = cleaned(tmp_path, documents, stage("Cutting", "a"), stage("Without", "a"), stage("Without", "b"))
    assert [(row.document.id, row.document.text, row.document.meta) for row in rows] == [("4", "c", {"cut": True})]
    first, second, third = account.stages.values()
    assert (first.rewritten, first.removed, first.reasons) == (2, 1, {"blank": 1})
    assert (second.removed, third.removed) == (0, 2)
    assert first.shared == {"without_a": 1} and first.only == 0  # of which nothing is left: later ones see it as it came


def test_what_was_dropped_is_shown_to_later_filters_as_they_would_rewrite_it(tmp_path: Path) -> None:
    _, account = cleaned(tmp_path, [Document("1", "abx")], stage("Without", "a"), stage("Cutting", "b"), stage("Without", "b"))
    assert account.stages["filters.without_a"].only == 1 and account.stages["filters.without_a"].shared == {}
    assert account.stages["filters.cutting_b"].before.documents == 0


def test_no_cleaning_moves_a_document_to_the_other_side(tmp_path: Path) -> None:
    rows, _ = cleaned(tmp_path, [Document("1", "abx")], stage("Cutting", "a"))
    assert rows == [Row(Document("1", "bx", meta={"cut": True}), place_of("abx"))]


def test_pages_are_extracted_and_what_has_no_text_goes(tmp_path: Path) -> None:
    page = "<p>a word</p>"
    documents = [
        Document("1", page, media_type=HTML, meta={"url": "!"}),
        Document("2", "<p></p>", media_type=HTML),
        Document("3", "<p>text"),
    ]
    extractor = Chosen(Component(Kind.extractor, "test.inner", Params, "test_cleaning:Inner", "x"), Params())
    rows, account = cleaned(tmp_path, documents, extractor=extractor)
    assert [(row.document.text, row.document.media_type) for row in rows] == [("a word!", PLAIN), ("<p>text", PLAIN)]
    assert rows[0].place == place_of("a word!")
    told = account.stages["extract"]
    assert (told.before.documents, told.after.documents, told.reasons) == (3, 2, {"blank": 1})
    assert told.before.bytes == len(page) + 7 + 7 and told.after.bytes == 7 + 7 and account.lengths_read == {8: 2}


def test_thresholds_are_measured_on_a_part_of_the_documents(tmp_path: Path) -> None:
    documents = [Document(str(number), "a" * (number % 5) + "x") for number in range(400)]
    _, account = cleaned(tmp_path, documents, stage("Without", "a"), measured=0.25)
    measured = account.stages["filters.without_a"].measured
    assert 60 < len(measured) < 140 and all(set(one.values) == {"count"} for one in measured)


def test_nothing_left_is_a_shard_without_documents(tmp_path: Path) -> None:
    rows, account = cleaned(tmp_path, [Document("1", "a")], stage("Without", "a"))
    assert rows == [] and account.documents == 0
