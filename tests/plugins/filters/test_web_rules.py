"""The filters `c4` and `fineweb`, on lines counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.c4 import C4
from llmkit.plugins.filters.fineweb import FineWeb
from llmkit.plugins.filters.rule_components import C4Params, FineWebParams

FIVE = [f"This is line {number} of the page." for number in range(5)]


def c4(*lines: str, **params: Any) -> list[str] | str:
    """The lines that are left besides the five, or the reason."""
    fate = C4(C4Params(**params)).apply(Document("", "\n".join([*FIVE, *lines])))
    return fate.reason if isinstance(fate, Drop) else fate.text.split("\n")[5:]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("  A line with blanks around it.\t", "A line with blanks around it."),
        ("No mark at the end", None),
        ("Three dots are none...", None),
        ('He said "stop here"', 'He said "stop here"'),
        ("Too short.", None),
        ("Just three words.", "Just three words."),
        (f"It has {'x' * 1000} in it.", f"It has {'x' * 1000} in it."),
        (f"It has {'x' * 1001} in it.", None),
        ("Paris is a city.[3][edit] It is old.[citation needed]", "Paris is a city. It is old."),
        ("Only now it ends.[12]", "Only now it ends."),
        ("Please enable JavaScript to go on.", None),
        ("Read our Privacy Policy with care.", None),
        ("This site uses cookies, as all do.", None),
        ("", None),
    ],
)
def test_a_line_of_a_page_stays_or_goes(line: str, left: str | None) -> None:
    assert c4(line) == ([] if left is None else [left])


def test_a_page_goes_with_a_line_of_filler_or_of_code_that_would_stay() -> None:
    assert c4("Lorem ipsum dolor sit amet.") == "lorem_ipsum"
    assert c4("Lorem[1] ipsum dolor sit amet.", "A { is here.") == "lorem_ipsum"
    assert c4("a = {} without an end", "lorem ipsum, and no end") == []
    assert c4("The first { of them.", "Then lorem ipsum too.") == "curly_bracket"


def test_a_page_of_few_sentences_goes() -> None:
    four = Document("", "\n".join(FIVE[:4]))
    assert C4(C4Params()).apply(four) == Drop("min_sentences", 4, 5)
    two_in_one = Document("", "\n".join([*FIVE[:3], "Mr. Brown came in. Then he left."]))
    assert C4(C4Params()).apply(two_in_one) is two_in_one
    assert C4(C4Params()).measure(two_in_one) == {"sentences": 5, "lorem_ipsum_lines": 0, "curly_bracket_lines": 0}


@pytest.mark.parametrize(
    ("line", "off"),
    [
        ("No mark at the end", {"terminal_punctuation": False}),
        ("Too short.", {"min_line_words": 2}),
        ("Cited in many places.[3]", {"citations": False, "terminal_punctuation": False}),
        ("Please enable JavaScript to go on.", {"javascript": False}),
        ("Read our Privacy Policy with care.", {"policy": False}),
        ("Lorem ipsum dolor sit amet.", {"lorem_ipsum": False}),
        ("A { is here.", {"curly_bracket": False}),
    ],
)
def test_each_rule_can_be_switched_off(line: str, off: dict[str, Any]) -> None:
    assert c4(line) != [line]
    assert c4(line, **off) == [line]


def test_what_is_known_of_a_page_stays_with_it() -> None:
    page = Document("id", "\n".join([*FIVE, "menu"]), "web", "CC0-1.0", {"url": "x"})
    fate = C4(C4Params()).apply(page)
    assert isinstance(fate, Document) and fate.text == "\n".join(FIVE)
    assert (fate.id, fate.source, fate.licence, fate.meta) == ("id", "web", "CC0-1.0", {"url": "x"})


def test_the_numbers_of_fineweb_are_those_counted_by_hand() -> None:
    text = "A title\n\nThis is a sentence that is long enough.\nIs it? Yes!\n   \nA title"
    assert FineWeb(FineWebParams()).measure(Document("", text)) == {
        "punctuated_lines": 2 / 4,
        "short_lines": 3 / 4,
        "duplicate_line_characters": 7 / (len(text) - 5),
        "newlines_per_word": 5 / 18,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("This is one line that is long enough to be no short line.", "kept"),
        ("This is one line that is long enough to be no short line", "min_punctuated_lines"),
        ("A short one.\nAnother one.\nA third one.", "max_short_lines"),
        ("This is one line that is long enough to be no short line.\n" * 2, "max_duplicate_line_characters"),
        ("\n\n".join(f"{letter * 31}." for letter in "abc"), "max_newlines_per_word"),
        ("これは三十字を超える長い行であり、文として終わっているので残るはずのものである。", "kept"),
        (" \n ", "min_punctuated_lines"),
    ],
)
def test_each_rule_of_fineweb_drops_what_breaks_it(text: str, reason: str) -> None:
    fate = FineWeb(FineWebParams()).apply(Document("", text))
    assert (fate.reason if isinstance(fate, Drop) else "kept") == reason


def test_the_published_thresholds_of_fineweb_are_the_defaults() -> None:
    assert list(FineWebParams().model_dump(exclude={"sources"}).values()) == [0.12, 0.67, 30, 0.01, 0.3]
