"""Words, as the published filters count them. What is expected was asked of spaCy 3.8's `English().tokenizer`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.plugins.filters.words import MOST_CHARACTERS, MOST_REMEMBERED, _Chunks, _Recent, sentences, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Hello Mr. Smith, don't go; it's 5km e.g. well-known (yes).",
            "Hello|Mr.|Smith|,|do|n't|go|;|it|'s|5|km|e.g.|well|-|known|(|yes|)|.",
        ),
        ("They couldn’t’ve; cannot, gonna.", "They|could|n’t|’ve|;|can|not|,|gon|na|."),  # noqa: RUF001
        ("J. R. in the U.S. or the UN. etc.", "J.|R.|in|the|U.S.|or|the|UN|.|etc|."),
        ("see (above): fine :-) 8)", "see|(|above|):|fine|:-)|8)"),
        ("https://example.org/a-b?c=d, me@example.org.", "https://example.org/a-b?c=d|,|me@example.org|."),
        ("wait... what?! «Oui»", "wait|...|what|?|!|«|Oui|»"),
        ("a,b 1,000 3.5% $20 20€ US$5 +49 2+2 1990-95 pre-1990", "a|,|b|1,000|3.5|%|$|20|20|€|US$|5|+49|2|+|2|1990|-|95|pre-1990"),
        ("end.Start lower.lower a/b and/or key:value", "end|.|Start|lower.lower|a|/|b|and/or|key|:|value"),
        ("at 10am, 3°C. ==== ---- ☃snow", "at|10|am|,|3|°|C|.|=|=|=|=|----|☃|snow"),
        ("James' ``quoted'' C++ 'tis", "James|'|`|`|quoted|''|C++|'|tis"),
        ("我喜欢。Да.", "我喜欢。Да|."),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_text_is_cut_as_spacy_cuts_english(text: str, expected: str) -> None:
    assert list(words(text)) == [word for word in expected.split("|") if word]


@given(st.text(alphabet=st.sampled_from("aZ’'\".,:;-()[]{}=/…🎈1 \nß好…"), max_size=40) | st.text(max_size=40))  # noqa: RUF001
def test_nothing_is_lost_or_made_up_but_white_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


@given(st.text(max_size=60), st.text(max_size=60))
def test_white_space_parts_words(one: str, other: str) -> None:
    assert [*words(one), *words(other)] == list(words(f"{one} {other}"))


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("One. Two! Three? Four", 4),
        ("Mr. Smith went to the U.S. on Friday.", 1),
        ('He said "Stop." Then he left.', 2),
        ("Wait... what? (Yes.) No", 3),
        ("no end at all", 1),
        ("短句。另一句。", 1),
    ],
)
def test_sentences_end_at_a_mark_that_a_word_follows(line: str, number: int) -> None:
    assert sentences(line) == number


def test_a_long_run_of_marks_takes_time_in_proportion() -> None:
    assert len(words("=" * 200_000)) == 200_000
    assert len(words("..," * 50_000)) == 100_000


def test_what_is_remembered_is_bounded() -> None:
    chunks = _Chunks()
    for number in range(2 * MOST_REMEMBERED + 10):
        assert chunks[f"w{number}"] == (f"w{number}",)
    assert len(chunks) <= MOST_REMEMBERED and len(chunks.before) <= MOST_REMEMBERED
    assert chunks["x" * 1000] == ("x" * 1000,) and "x" * 1000 not in chunks


def test_the_words_of_a_batch_are_cut_once_and_memory_is_bounded() -> None:
    assert words("one and the same text") is words("one and the same text")
    recent = _Recent()
    for number in range(20):
        recent.keep(f"{number:02}" + "x" * (MOST_CHARACTERS // 10 - 2), [])
    assert len(recent) == 10 and recent.characters == sum(map(len, recent)) <= MOST_CHARACTERS
    recent.keep("y" * 2 * MOST_CHARACTERS, [])
    assert list(recent) == ["y" * 2 * MOST_CHARACTERS]
