"""The filter `lines`."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.lines import Lines
from llmkit.plugins.filters.rule_components import LinesParams

OFF: dict[str, Any] = {"min_words": 0, "max_uppercase": None, "numbers": False, "counters": False, "duplicates": False, "boilerplate": []}


def left(text: str, **params: Any) -> str:
    fate = Lines(LinesParams(**params)).apply(Document("", text))
    assert isinstance(fate, Document)
    return fate.text


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("Home", {"min_words": 2}),
        ("ab cd", {"min_characters": 6}),
        ("ABOUT OUR Shop", {"max_uppercase": 0.5}),
        ("12 / 2024 - 99", {"numbers": True}),
        ("1,204 views", {"counters": True}),
        ("3 Likes |", {"counters": True}),
        ("Sign in to comment", {"boilerplate": ["^sign in"]}),
        ("and then Read more...", {"boilerplate": [r"read more\.*$"]}),
        ("no end here", {"terminal_punctuation": True}),
    ],
)
def test_each_rule_takes_its_lines_and_no_others(line: str, rule: dict[str, Any]) -> None:
    page = f"The first line of text.\n{line}\nThe last line of text."
    assert left(page, **OFF) == page
    assert left(page, **{**OFF, **rule}) == "The first line of text.\nThe last line of text."


@pytest.mark.parametrize(
    "line",
    [
        "NASA went to the Moon.",
        "She had 3 likes.",
        "He asked her to sign in at the door of the house and to wait there for the others.",
        "“It is done.”",
        "They came (all of them).",
    ],
)
def test_text_stays(line: str) -> None:
    assert left(line) == line
    assert left(line, terminal_punctuation=True) == line


def test_a_line_that_was_there_goes_the_second_time() -> None:
    assert left("One line.\nTwo lines.\n  One line.\nThree lines.") == "One line.\nTwo lines.\nThree lines."


def test_gaps_are_closed_where_something_went_and_only_there() -> None:
    assert left("A first one.\n\nHome\n\nA last one.") == "A first one.\n\nA last one."
    assert left("A first one.\n\n\n\nA last one.") == "A first one.\n\n\n\nA last one."


def test_a_page_of_menus_goes_whole_where_asked() -> None:
    page = Document("", "Home\nShop\nA line of text.")
    assert Lines(LinesParams(max_removed=0.3)).apply(page) == Drop("max_removed", 2 / 6, 0.3)
    assert left(page.text, max_removed=0.4) == "A line of text."


@given(st.lists(st.sampled_from(["Home", "A line.", "3 likes", "", "UPPER CASE", "Other text.", "12 12"]), max_size=12).map("\n".join))
def test_what_is_left_are_lines_of_the_text_in_their_order_and_once_is_enough(text: str) -> None:
    once = left(text)
    rest = iter(text.split("\n"))
    assert all(line in rest for line in once.split("\n") if line)
    assert left(once) == once


@pytest.mark.parametrize("line", ["." * 100_000 + " 12", ". " * 50_000 + "x", ",." * 50_000 + "1"])
def test_a_long_row_of_dots_takes_no_longer_than_other_text(line: str) -> None:
    began = process_time()
    Lines(LinesParams(**OFF | {"counters": True})).apply(Document("a", line))
    assert process_time() - began < 5
