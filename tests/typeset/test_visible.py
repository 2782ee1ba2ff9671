"""Text of strangers, made visible."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.typeset.visible import CUT, HIDDEN, JOINERS, STACKED, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[31m", "a\u27e80000\u27e9b\u27e8001B\u27e9[31m"),
        ("pay \u202e001\u202c", "pay \u27e8202E\u27e9001\u27e8202C\u27e9"),
        ("\ufeffmark \u2066isolate", "\u27e8FEFF\u27e9mark \u27e82066\u27e9isolate"),
        ("one\r\ntwo\rthree\u2028four\x85five", "one\ntwo\nthree\nfour\nfive"),
        ("tab\tand line\n", "tab\tand line\n"),
        ("\ud83d", "\u27e8D83D\u27e9"),
        ("\U0001f468\u200d\U0001f469 \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("cafe\u0301, \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd, \u1ea5", None),
    ],
)
def test_what_acts_or_deceives_is_written_out_and_what_is_written_with_stays(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


def test_a_tower_of_combining_marks_is_cut_down() -> None:
    assert visible("z" + "\u0301" * 500 + "a\u0301") == "z" + "\u0301" * STACKED + "a\u0301"


def test_a_cut_is_told_and_what_fits_is_not_cut() -> None:
    assert visible("abcdef", 3) == f"abc{CUT}"
    assert visible("abc", 3) == "abc"


@given(st.text(st.characters(), max_size=60), st.none() | st.integers(1, 20))
def test_nothing_without_a_glyph_gets_through(text: str, most: int | None) -> None:
    shown = visible(text, most)
    assert not [one for one in shown if unicodedata.category(one) in HIDDEN and one not in JOINERS and one not in "\n\t"]
    shown.encode()


@given(st.text(st.characters(), max_size=60))
def test_a_name_is_on_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
