"""Gopher's two filters, on documents whose numbers are counted by hand or by brute force."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.gopher_quality import GopherQuality
from llmkit.plugins.filters.gopher_repetition import GopherRepetition, duplicated, repeated, top
from llmkit.plugins.filters.rule_components import GopherQualityParams, GopherRepetitionParams

OTHERS = ["Boats came home late", "nobody saw a light", "wind blew from north", "rain fell till dawn"]
PROSE = "It was of the men that we have heard, and to be with them. "
"""13 words of 43 letters, two marks; every stop word: the be to of and that have with."""


def quality(text: str, **params: Any) -> str:
    fate = GopherQuality(GopherQualityParams(**params)).apply(Document("", text))
    return fate.reason if isinstance(fate, Drop) else "kept"


def test_the_numbers_of_a_text_are_those_counted_by_hand() -> None:
    text = "• The cat, and # dogs ...\n- to 42 be\nEnd…"
    # words: • The cat , and # dogs ... - to 42 be End … ; of 14, 8 have a character that is no punctuation, `•` among them.
    measured = GopherQuality(GopherQualityParams()).measure(Document("", text))
    assert measured == {
        "words": 9,
        "word_length": (1 + 3 + 3 + 3 + 4 + 2 + 2 + 2 + 3) / 9,
        "symbol_ratio": 2 / 14,
        "bullet_lines": 2 / 3,
        "ellipsis_lines": 2 / 3,
        "alphabetic": 7 / 14,
        "stop_words": 3,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE * 4, "kept"),
        (PROSE * 3, "min_words"),
        ("of the a b c d to be " * 10, "min_word_length"),
        ("extraordinarily incomprehensibilities the and " * 20, "max_word_length"),
        (PROSE * 4 + "# " * 8, "max_symbol_ratio"),
        ((PROSE + "... ") * 3 + PROSE + "… … … … … …", "max_symbol_ratio"),
        ("\n".join(f"- {PROSE}" for _ in range(5)), "max_bullet_lines"),
        ("\n".join([f"{PROSE}..."] * 2 + [PROSE] * 3), "max_ellipsis_lines"),
        (PROSE * 4 + "1234 " * 20, "min_alphabetic"),
        ("Boats lay at anchor near us. " * 10, "min_stop_words"),
    ],
)
def test_each_rule_drops_what_breaks_it_alone(text: str, reason: str) -> None:
    assert quality(text) == reason


def test_the_published_thresholds_are_the_defaults() -> None:
    params = GopherQualityParams().model_dump(exclude={"sources", "stop_words"})
    assert list(params.values()) == [50, 100_000, 3, 10, 0.1, 0.9, 0.3, 0.8, 2]
    assert set(GopherQualityParams().stop_words) == {"the", "be", "to", "of", "and", "that", "have", "with"}
    published = [0.3, 0.2, 0.3, 0.2, 0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1]
    assert list(GopherRepetitionParams().model_dump(exclude={"sources"}).values()) == published


def test_a_number_at_a_threshold_stays() -> None:
    words = GopherQuality(GopherQualityParams()).measure(Document("", PROSE * 4))["words"]
    assert quality(PROSE * 4, min_words=int(words), max_words=int(words)) == "kept"
    assert quality(PROSE * 4, min_words=int(words) + 1) == "min_words"


def test_what_is_repeated_is_counted_from_the_second_time_on() -> None:
    assert repeated(["ab", "c", "ab", "ab", "c"]) == (3, 5)
    measured = GopherRepetition(GopherRepetitionParams()).measure(Document("", "one\ntwo\none\n\nthree four\n\nthree four"))
    assert measured["duplicate_lines"] == 2 / 5 and measured["duplicate_line_characters"] == 13 / 35
    assert measured["duplicate_paragraphs"] == 1 / 3 and measured["duplicate_paragraph_characters"] == 10 / 35


def test_the_most_frequent_words_in_a_row_count_with_their_spaces() -> None:
    # Of `to be or not to be`, `to be` comes twice: 5 characters each.
    assert top(["to", "be", "or", "not", "to", "be"], 2) == 10
    # None comes twice: the first, once.
    assert top(["to", "be", "or", "not", "to", "be"], 3) == len("to be or")
    assert top(["alone"], 2) == 0


def test_words_in_a_row_that_were_there_before_count_once() -> None:
    words = ["a", "b", "c", "d", "e", "f", "a", "b", "c", "d", "e", "f", "g"]
    # From the seventh on, five words are there before; behind them f and g begin nothing that is.
    assert list(duplicated(words, range(5, 8))) == [5, 6, 0]


@given(st.lists(st.sampled_from("ab"), max_size=40) | st.lists(st.sampled_from(["x", "yy", "zzz"]), max_size=40))
def test_duplicated_n_grams_are_those_of_the_definition(words: list[str]) -> None:
    assert list(duplicated(words, range(5, 11))) == [by_definition(words, n) for n in range(5, 11)]


def by_definition(words: list[str], n: int) -> int:
    """A walk from left to right, with a set of the n-grams that it has met."""
    met: set[tuple[str, ...]] = set()
    place = characters = 0
    while place + n <= len(words):
        gram = tuple(words[place : place + n])
        if gram in met:
            characters += len("".join(gram))
            place += n
        else:
            met.add(gram)
            place += 1
    return characters


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), min_size=1, max_size=60))
def test_leaving_out_what_is_surely_small_changes_no_fate(words: list[str]) -> None:
    text = " ".join(words)
    for n, share in ((2, 0.2), (3, 0.18), (4, 0.16)):
        only = GopherRepetitionParams(
            **{name: None for name in GopherRepetitionParams.model_fields if name not in ("sources", f"max_top_{n}_gram")}
        )
        counts = Counter(zip(*(words[start:] for start in range(n))))
        gram, count = counts.most_common(1)[0] if counts else ((), 0)
        fate = GopherRepetition(only).apply(Document("", text))
        assert isinstance(fate, Drop) == (len(" ".join(gram)) * count / len(text) > share)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\n".join(["one two three"] * 2 + ["four five six seven"]), "max_duplicate_paragraphs"),
        ("\n".join(["a"] * 3 + OTHERS), "kept"),
        ("\n".join(["a"] * 4 + OTHERS), "max_duplicate_lines"),
        ("buy now " * 4 + "while there is time to read on and on", "max_top_2_gram"),
    ],
)
def test_repetition_is_dropped_by_the_rule_that_it_breaks_first(text: str, reason: str) -> None:
    fate = GopherRepetition(GopherRepetitionParams()).apply(Document("", text))
    assert (fate.reason if isinstance(fate, Drop) else "kept") == reason
