"""The accounts of shards, and how they become one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.data.accounting import SAMPLES, SAMPLES_A_STAGE, SHOWN, Measured, StageAccount, bin_of, merged, rank_of


def account_of(numbers: list[int], reasons: int = 3) -> StageAccount:
    account = StageAccount()
    for number in numbers:
        account.before.count(10)
        account.drop("filters.x", Document(str(number), f"text {number}"), Drop(f"reason {number % reasons}", number, 1.0))
        account.measured.append(Measured(rank=rank_of("m", str(number)), values={"n": number}))
    return account.trimmed()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_however_documents_are_shared_among_shards_the_account_is_the_same(seed: int, shards: int) -> None:
    numbers = list(range(300))
    whole = merged([account_of(numbers)])
    random.Random(seed).shuffle(numbers)
    parts = merged(account_of(numbers[part::shards]) for part in range(shards))
    assert parts.model_dump() == whole.model_dump()


def test_of_each_reason_so_many_samples_are_kept_and_all_are_counted() -> None:
    account = merged([account_of(list(range(500)))])
    assert account.removed == account.before.documents == 500 and account.reasons == {"reason 0": 167, "reason 1": 167, "reason 2": 166}
    assert [sum(one.sample.reason == f"reason {number}" for one in account.samples) for number in range(3)] == [SAMPLES] * 3
    sample = account.samples[0].sample
    assert sample.value == int(sample.id) and sample.limit == 1.0 and sample.removal == "dropped"


def test_a_stage_of_a_thousand_reasons_keeps_no_more_samples_than_it_may() -> None:
    account = merged([account_of(list(range(5000)), reasons=1000)])
    assert len(account.samples) == SAMPLES_A_STAGE and len(account.reasons) == 1000


def test_samples_are_as_if_drawn_at_random() -> None:
    ids = [int(one.sample.id) for one in account_of(list(range(30_000)), reasons=1).samples]
    assert len(ids) == SAMPLES and 5_000 < sum(ids) / len(ids) < 25_000


def test_a_rewritten_document_is_shown_where_it_changed() -> None:
    account = StageAccount()
    account.rewrite("filters.x", Document("a", "x" * 5000 + " mail a@b.cd " + "y" * 5000), "x" * 5000 + " mail <EMAIL> " + "y" * 5000)
    sample = account.samples[0].sample
    assert "a@b.cd" in sample.text and sample.after is not None and "<EMAIL>" in sample.after and len(sample.text) == SHOWN
    assert account.rewritten == 1 and account.removed == 0 and sample.removal == "rewritten"


@pytest.mark.parametrize(("size", "bound"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1024, 1024), (1025, 2048)])
def test_bins_of_lengths_end_at_powers_of_two(size: int, bound: int) -> None:
    assert bin_of(size) == bound
