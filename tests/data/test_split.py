"""The choice of validation documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.split import is_validation


@given(texts=st.lists(st.text(max_size=20), max_size=30), added=st.lists(st.text(max_size=20), max_size=30))
def test_adding_documents_moves_no_other(texts: list[str], added: list[str]) -> None:
    before = {text for text in texts if is_validation(text, 0.3)}
    after = {text for text in [*added, *texts] if is_validation(text, 0.3)}
    assert before == after & set(texts)


@given(text=st.text(), low=st.floats(0.001, 0.5), high=st.floats(0.5, 0.999))
def test_a_larger_part_holds_the_smaller_one(text: str, low: float, high: float) -> None:
    assert is_validation(text, low) <= is_validation(text, high)


def test_the_part_held_out_is_the_fraction() -> None:
    held_out = sum(is_validation(str(number), 0.05) for number in range(20_000))
    assert abs(held_out - 1000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5
