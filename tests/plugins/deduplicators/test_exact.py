"""The deduplicator `exact`."""

from __future__ import annotations

import random

import numpy as np
import pytest
from resolving import left, resolved

from llmkit.core.interfaces.deduplicator import Ragged
from llmkit.plugins.deduplicators.components import ExactParams
from llmkit.plugins.deduplicators.exact import Exact


def test_the_first_of_equal_documents_stays() -> None:
    assert left(Exact(ExactParams()), ["one", "two", "one", "three", "two", "one"]) == ["one", "two", "three"]


def test_every_document_is_told_the_first_with_its_text() -> None:
    texts = random.Random(0).choices([str(number) for number in range(300)], k=2000)
    assert resolved(Exact(ExactParams()), texts).keeper.tolist() == [texts.index(text) for text in texts]


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (ExactParams(), 4),
        (ExactParams(ignore_case=True), 2),
        (ExactParams(ignore_whitespace=True), 3),
        (ExactParams(ignore_case=True, ignore_whitespace=True), 1),
    ],
)
def test_case_and_whitespace_count_unless_they_are_ignored(params: ExactParams, kept: int) -> None:
    assert len(left(Exact(params), ["A straße  here", "a STRASSE  here", "A straße\there\n", "a strasse\there\n"])) == kept


def test_no_document_and_half_a_pair_of_utf_16_are_no_error() -> None:
    assert len(resolved(Exact(ExactParams()), []).keeper) == 0
    assert resolved(Exact(ExactParams()), ["\ud800", "", "\ud800"]).keeper.tolist() == [0, 1, 0]


def test_documents_that_share_half_of_their_hash_are_not_the_same() -> None:
    halves = np.array([1, 2, 1, 3, 9, 2, 1, 2], np.uint64)
    sketches = Ragged(halves, np.arange(0, 9, 2))
    assert Exact(ExactParams()).resolve(sketches, np.ones(4, np.int64)).keeper.tolist() == [0, 1, 2, 0]
