"""The filter `word_list`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import WordListParams
from llmkit.plugins.filters.word_list import WordList

LIST = Path(__file__).parents[3] / "../shared/data/wordlists/naughty_words_en.txt"


def count(text: str, words: list[str], **params: Any) -> float:
    return WordList(WordListParams(words=words, **params)).measure(Document("", text))["count"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Spam and SPAM; spam-spam.", 4),
        ("spammer antispam spam_spam", 0),
        ("law and order, Law and Order", 2),
        ("law  and order", 0),
        ("spam law and order", 2),
        ("A 🎈 here🎈", 1),
        ("", 0),
    ],
)
def test_words_and_phrases_are_found_whole_and_in_any_case(text: str, number: int) -> None:
    assert count(text, ["spam", "Law and Order", "🎈", " "]) == number


def test_within_longer_words_only_where_asked() -> None:
    assert count("spammer antispam", ["spam"], part_of_words=True) == 2
    assert count("这是垃圾邮件", ["垃圾"], part_of_words=True) == 1


def test_a_document_goes_by_number_or_by_share() -> None:
    text = Document("", "spam " * 2 + "word " * 8)
    assert WordList(WordListParams(words=["spam"])).apply(text) == Drop("max_count", 2, 0)
    assert WordList(WordListParams(words=["spam"], max_count=2)).apply(text) is text
    assert WordList(WordListParams(words=["spam"], max_count=None, max_share=0.1)).apply(text) == Drop("max_share", 0.2, 0.1)
    assert WordList(WordListParams(words=["spam"], max_count=None, max_share=0.2)).apply(text) is text


@given(
    st.lists(st.sampled_from(["a", "ab", "a b", "b-a", "!", "a!", "ab a b"]), min_size=1, max_size=4),
    st.text(alphabet="ab -!_", max_size=30),
)
def test_a_list_is_looked_up_as_one_expression_would_find_it(words: list[str], text: str) -> None:
    longest_first = sorted(set(words), key=len, reverse=True)
    whole = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    assert count(text, words) == len(whole.findall(text))


def test_a_file_is_read_and_a_change_of_it_is_another_filter(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("spam\n\nham\n", encoding="utf-8")
    first = WordList(WordListParams(words=str(path)))
    assert first.measure(Document("", "Ham, spam, eggs"))["count"] == 2
    assert first.fingerprint() == WordList(WordListParams(words=["ham", "spam"])).fingerprint()
    path.write_text("spam\n", encoding="utf-8")
    assert WordList(WordListParams(words=str(path))).fingerprint() != first.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read .*: No such file"), (b"\xff\xfe", "is no UTF-8"), (b"\n \n", "there is no word in")],
)
def test_a_file_that_is_none_is_the_users_to_mend(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        WordList(WordListParams(words=str(path))).measure(Document("", "text"))


@pytest.mark.skipif(not LIST.exists(), reason="the list of words is not here")
def test_the_list_that_c4_took_is_found_by_its_own_words() -> None:
    filtered = WordList(WordListParams(words=str(LIST)))
    for word in LIST.read_text(encoding="utf-8").splitlines():
        assert isinstance(filtered.apply(Document("", f"Well, {word}!")), Drop), word
    assert filtered.apply(Document("", "A quiet harbour in the morning.")) == Document("", "A quiet harbour in the morning.")


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfharbour\r\nsea\r\n")
    assert isinstance(WordList(WordListParams(words=str(tmp_path / "words.txt"))).apply(Document("a", "the harbour")), Drop)
