"""Hashed word n-grams, beside a definition that goes a character at a time."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.plugins.deduplicators.shingles import PIECE, shingles

ALPHABET = "aAbBéÉe\u0301ñà\u03a3\u03c3\u03c2жЖאب7²한글-'_.,\n \u2003“”ा"
TEXT = st.text(st.sampled_from(ALPHABET), max_size=40)


def words_of(text: str) -> list[str]:
    """Words by the definition, a character at a time."""
    plain = [letter for letter in unicodedata.normalize("NFD", text.casefold()) if unicodedata.category(letter) != "Mn"]
    return "".join(letter if letter.isalnum() or unicodedata.category(letter) == "Mc" else " " for letter in plain).split()


def runs_of(text: str, n: int) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[start : start + n]) for start in range(max(len(words) - n + 1, 1))} if words else {(text,)}


def hashed(text: str, n: int) -> set[int]:
    return set(shingles([text], n).values.tolist())


@settings(deadline=None)
@given(one=TEXT, other=TEXT, n=st.integers(1, 5))
def test_two_texts_share_as_many_shingles_as_runs_of_words(one: str, other: str, n: int) -> None:
    first, second = hashed(one, n), hashed(other, n)
    assert (len(first), len(second)) == (len(runs_of(one, n)), len(runs_of(other, n)))
    assert len(first & second) == len(runs_of(one, n) & runs_of(other, n))


@settings(deadline=None)
@given(texts=st.lists(TEXT, max_size=6), n=st.integers(1, 4))
def test_a_text_among_others_has_the_shingles_that_it_has_alone(texts: list[str], n: int) -> None:
    together = shingles(texts, n)
    assert len(together) == len(texts)
    for index, text in enumerate(texts):
        assert together.row(index).tolist() == shingles([text], n).values.tolist()


@pytest.mark.parametrize("space", [" ", "\n", "\u2003"])
def test_a_text_longer_than_a_piece_loses_no_word_and_gains_none(space: str) -> None:
    rng = random.Random(0)
    words = [f"w{rng.randrange(10**6)}" for _ in range(3 * PIECE // 7)]
    texts = [space.join(words), "short", space.join(reversed(words))]
    found = shingles(texts, 5)
    cuts = 0 if space == " " else 8 * 5
    for index in (0, 2):
        assert len(found.row(index)) == pytest.approx(len(words) - 4, abs=cuts)
        assert len(set(found.row(index).tolist())) == pytest.approx(len(runs_of(texts[index], 5)), abs=cuts)
    assert found.row(1).tolist() == shingles(["short"], 5).values.tolist()


def test_a_text_without_any_space_is_cut_alike_wherever_it_stands() -> None:
    blob = "x" * (3 * PIECE)
    assert shingles(["a b", blob], 2).row(1).tolist() == shingles([blob], 2).values.tolist()


def test_in_scripts_without_spaces_a_letter_is_a_word() -> None:
    assert len(hashed("東京都に住む", 2)) == 5
    assert hashed("東京", 1) & hashed("x東y", 1) == hashed("東", 1)
    assert len(hashed("สวัสดี", 1)) == len(set("สวสด"))


def test_case_accents_and_punctuation_make_no_difference() -> None:
    assert hashed("Le CAFÉ, cre\u0301e\u0301 hier!", 3) == hashed("le cafe — cree (hier)", 3)


def test_what_has_no_word_is_compared_as_it_is() -> None:
    assert hashed("***", 5) == hashed("***", 5) != hashed("---", 5)
    assert hashed("", 5) != hashed(" ", 5)


def test_half_a_pair_of_utf_16_and_the_last_code_points_are_no_error() -> None:
    assert len(hashed("a\ud800b \U0010ffff c\U000e0041", 1)) == 3
