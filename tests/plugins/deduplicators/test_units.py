"""The deduplicators `lines` and `paragraphs`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resolving import left, resolved

from llmkit.core.interfaces.deduplicator import Ragged
from llmkit.plugins.deduplicators import units
from llmkit.plugins.deduplicators.components import UnitParams
from llmkit.plugins.deduplicators.units import Lines, Paragraphs

NOTICE = "Permission is hereby granted, free of charge, to any person obtaining a copy"
TEXTS = st.lists(st.text(st.sampled_from("ab \n\r"), max_size=30), max_size=8)


def test_a_line_stays_where_it_is_first() -> None:
    texts = [f"first\n{NOTICE}\nlast\n", f"second\n{NOTICE}\nend", f"{NOTICE}\n"]
    assert left(Lines(UnitParams()), texts) == [f"first\n{NOTICE}\nlast\n", "second\nend"]


def test_a_paragraph_goes_with_the_blank_lines_after_it() -> None:
    texts = [f"one\n\n{NOTICE}\nof this\n", f"two\n\n{NOTICE}\nof this\n \n\nthree\n"]
    assert left(Paragraphs(UnitParams()), texts) == [texts[0], "two\n\nthree\n"]


def test_what_is_short_stays() -> None:
    assert left(Lines(UnitParams(min_length=4)), ["yes\nnone\n", "yes\nnone\n"]) == ["yes\nnone\n", "yes\n"]


def test_what_only_its_own_document_repeats_stays() -> None:
    song = f"{NOTICE}\nverse\n{NOTICE}\n"
    assert left(Lines(UnitParams()), [song, song + "new"]) == [song, "verse\nnew"]


def test_case_counts_unless_it_is_ignored() -> None:
    texts = [NOTICE, NOTICE.upper()]
    assert left(Lines(UnitParams()), texts) == texts
    assert left(Lines(UnitParams(ignore_case=True)), texts) == [NOTICE]


@pytest.mark.parametrize("at_once", [1 << 23, 1, 2, 5])
@pytest.mark.parametrize("kind", [Lines, Paragraphs])
@settings(max_examples=50, deadline=None)
@given(texts=TEXTS)
def test_what_is_cut_is_what_a_dictionary_says(kind: type[Lines] | type[Paragraphs], at_once: int, texts: list[str]) -> None:
    deduplicator = kind(UnitParams(min_length=2))
    before, units.AT_ONCE = units.AT_ONCE, at_once
    try:
        cut = resolved(deduplicator, texts).cut
    finally:
        units.AT_ONCE = before
    assert cut is not None
    seen: dict[str, int] = {}
    for index, text in enumerate(texts):
        own = [unit.strip() for unit in deduplicator.units(text)]
        repeated = [number for number, unit in enumerate(own) if len(unit) >= 2 and seen.setdefault(unit, index) < index]
        assert cut.row(index).tolist() == repeated


@pytest.mark.parametrize("kind", [Lines, Paragraphs])
@settings(deadline=None)
@given(text=st.text(st.sampled_from("ab \n\r\t\x0b"), max_size=60))
def test_units_end_with_a_line_and_are_not_blank_after_the_first(kind: type[Lines] | type[Paragraphs], text: str) -> None:
    found = kind(UnitParams()).units(text)
    assert "".join(found) == text
    assert all(unit.endswith("\n") for unit in found[:-1])
    assert all(unit.strip() for unit in found[1:])


def test_hashes_of_any_value_are_found_in_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "AT_ONCE", 1)
    values = np.array([1, 2**64 - 1, 2**63, 2**63 - 1, 1, 2**64 - 1, 2**63, 2**63 - 1], np.uint64)
    assert units._repeated(Ragged(values, np.array([0, 4, 8])), np.array([0, 4, 8])).tolist() == [4, 5, 6, 7]
