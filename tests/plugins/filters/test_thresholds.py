"""All filters of thresholds: what is dropped, and what is measured, are one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.interfaces.filter import Drop, Filter
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import COMPONENTS

WORDS = st.sampled_from(
    ["the", "of", "harbour", "and", "Boats", "a", "#", "...", "•", "-", "don't", "12", "lorem ipsum", "{", "javascript"]
)
LINES = st.lists(
    st.lists(WORDS, max_size=7).map(" ".join) | st.sampled_from(["The end of it.", "It was the end!", "", "• one"]), max_size=12
)
TEXTS = st.builds("\n".join, LINES) | st.text(max_size=80)
LOW: dict[str, dict[str, Any]] = {
    "gopher_quality": {"min_words": 5, "max_words": 30, "min_word_length": 2, "max_word_length": 5, "max_bullet_lines": 0.2},
    "gopher_repetition": {"max_duplicate_lines": 0.5, "max_duplicate_paragraphs": 0.6, "max_top_2_gram": 0.3, "max_duplicate_5_grams": 0.3},
    "c4": {"min_sentences": 2},
    "fineweb": {},
    "word_list": {"words": ["boats", "end of it", "#"], "max_count": 2, "max_share": 0.2},
    "lines": {"max_removed": 0.3},
}
"""Thresholds that short texts fall on both sides of."""


def made(name: str, params: dict[str, Any]) -> Filter:
    component = next(component for component in COMPONENTS if component.name == name)
    found: Filter = component.resolve()(component.params.model_validate(params))
    return found


@pytest.mark.parametrize("name", LOW)
@given(text=TEXTS)
def test_a_document_is_dropped_exactly_where_a_limit_is_violated(name: str, text: str) -> None:
    one = made(name, LOW[name])
    fate, measured = one.apply(Document("", text)), one.measure(Document("", text))
    violated = {
        limit.parameter
        for limit in one.limits()
        if (limit.least is not None and measured[limit.statistic] < limit.least)
        or (limit.most is not None and measured[limit.statistic] > limit.most)
    }
    assert isinstance(fate, Drop) == bool(violated)
    assert not isinstance(fate, Drop) or fate.reason in violated


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "fineweb"])
@given(text=TEXTS)
def test_no_rule_is_asked_whose_threshold_is_null(name: str, text: str) -> None:
    one = made(name, {limit.parameter: None for limit in made(name, {}).limits()})
    assert one.limits() == ()
    assert one.apply(Document("", text)) == Document("", text)


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "c4", "fineweb", "lines"])
@given(text=TEXTS)
def test_a_threshold_is_a_parameter_and_drops_by_its_name(name: str, text: str) -> None:
    one = made(name, LOW[name])
    parameters = set(type(one.params).model_fields)
    assert {limit.parameter for limit in one.limits()} <= parameters
    fate = one.apply(Document("", text))
    assert not isinstance(fate, Drop) or fate.reason in parameters


def test_limits_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="min_words 9 is more than max_words 8, so that no document would stay"):
        made("gopher_quality", {"min_words": 9, "max_words": 8})
    with pytest.raises(ValueError, match="is no regular expression"):
        made("lines", {"boilerplate": ["("]})
