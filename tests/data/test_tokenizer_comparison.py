"""Tokenizers side by side: every figure beside one that is worked out by hand or by brute force."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.data.tokenizer_comparison import compare, use_of, words_of
from llmkit.data.tokenizer_habits import Whitespace, changed, digits_of, whitespace_of
from llmkit.data.tokenizer_texts import Text, documents_of, gathered, places
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams, BytesParams, PretrainedParams
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.utf8 import Utf8

GPT2 = Path(__file__).parents[3] / "shared/data/gpt2-tokenizer"
BYTES = Utf8.train(BytesParams(), ())
TEXTS = [Text("en", ["the cat, the dog and the bird", "isn't it"]), Text("zh", ["你好 world", "é"])]


class Cuts(Tokenizer):
    """Cuts text wherever a pattern finds a piece; the ids are of no account."""

    vocab_size = 1000
    special_tokens = {"<|endoftext|>": 0}  # noqa: RUF012

    def __init__(self, pattern: str, *, lossy: bool = False) -> None:
        self.pattern = re.compile(pattern, re.DOTALL)
        self.lossy = lossy
        self.pieces: list[str] = []

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        return self.encode_offsets(text)[0]

    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        spans = [match.span() for match in self.pattern.finditer(text)]
        first = len(self.pieces)
        self.pieces += [text[start:end] for start, end in spans]
        return list(range(first, first + len(spans))), spans

    def decode(self, ids: Any, *, skip_specials: bool = True) -> str:
        text = "".join(self.pieces[index] for index in ids)
        return text.upper() if self.lossy else text


def from_right(group: int) -> str:
    return rf"\d{{1,{group}}}(?=(?:\d{{{group}}})*(?!\d))|\D"


@pytest.mark.parametrize(
    ("pattern", "direction", "group", "pieces"),
    [
        (".", "single", 1, list("1234567")),
        (r"\d{1,3}|.", "left", 3, ["123", "456", "7"]),
        (r"\d{1,2}|.", "left", 2, ["12", "34", "56", "7"]),
        (from_right(3), "right", 3, ["1", "234", "567"]),
        (r"\d+|.", "whole", 9, ["1234567"]),
        (r"11|12|123|.", "learned", 2, ["12", "3", "4", "5", "6", "7"]),
    ],
)
def test_how_digits_are_cut_is_told(pattern: str, direction: str, group: int, pieces: list[str]) -> None:
    found = digits_of(Cuts(pattern))
    assert (found.direction, found.group, found.pieces) == (direction, group, pieces)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            r" ?\w+|.",
            Whitespace("before the word", {"2 spaces": 1, "4 spaces": 3, "8 spaces": 7, "16 spaces": 15, "1 tab": 1, "2 tabs": 2}, 3),
        ),
        (
            r"\w+ ?|\s+|.",
            Whitespace("behind the word", dict.fromkeys(("2 spaces", "4 spaces", "8 spaces", "16 spaces", "1 tab", "2 tabs"), 0), 0),
        ),
        (r"\w+| +|.", Whitespace("apart", {"2 spaces": 1, "4 spaces": 1, "8 spaces": 1, "16 spaces": 1, "1 tab": 1, "2 tabs": 2}, 3)),
    ],
)
def test_what_white_space_costs_is_told(pattern: str, expected: Whitespace) -> None:
    assert whitespace_of(Cuts(pattern)) == expected


def test_what_does_not_come_back_is_told() -> None:
    assert list(changed(Cuts(".", lossy=True), ("same", "SAME"))) == ["same"]
    assert list(changed(BYTES)) == []


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.sampled_from(["don't", "x_1", "नमस्ते दुनिया", "日本語 テスト", "a'b'c' 'd", "ไทย"])
)
@settings(max_examples=150, deadline=None)
def test_words_are_letters_marks_and_digits_in_a_row(text: str) -> None:
    spans = [tuple(span) for span in words_of(text)]
    covered = set()
    for start, end in spans:
        assert covered.isdisjoint(range(start, end)) and end > start
        covered |= set(range(start, end))
    # Python's tables of Unicode may be older than the library's: what is unassigned in them may be a letter.
    for place, character in enumerate(text):
        if unicodedata.category(character)[0] in "LMN":
            assert place in covered
        elif character not in "'\u2019" and unicodedata.category(character) != "Cn":
            assert place not in covered


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop; it\u2019s 12:30", ["don't", "stop", "it\u2019s", "12", "30"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("東京へ go", ["東", "京", "へ", "go"]),
        ("'quoted' words'", ["quoted", "words"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("", []),
    ],
)
def test_what_a_word_is(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in words_of(text)] == words


@pytest.mark.parametrize("pattern", [".", r" ?\w+|.", r"\w{1,2}|.", r".{1,3}", r".{1,7}"])
def test_fertility_and_whole_words_are_what_counting_one_by_one_gives(pattern: str) -> None:
    compared = compare({"it": Cuts(pattern)}, TEXTS, rounds=1).tokenizers[0]
    for text, told in zip(TEXTS, compared.texts, strict=True):
        pieces = whole = words = tokens = 0
        for document in text.documents:
            spans = [match.span() for match in re.finditer(pattern, document)]
            found = [tuple(span) for span in words_of(document)]
            tokens += len(spans)
            words += len(found)
            for start, end in found:
                inside = [span for span in spans if span[0] < end and span[1] > start]
                pieces += len(inside)
                others = [word for word in found if inside[0][0] < word[1] and inside[0][1] > word[0]]
                whole += len(inside) == 1 and len(others) == 1
        assert (told.tokens, told.fertility, told.whole_words) == (tokens, pieces / words, whole / words)


def test_bytes_have_a_byte_a_token_and_a_character_its_bytes() -> None:
    compared = compare({"bytes": BYTES}, TEXTS, rounds=1)
    assert [(text.name, text.documents, text.bytes, text.characters, text.words) for text in compared.texts] == [
        ("en", 2, 37, 37, 9),
        ("zh", 2, 14, 9, 4),
    ]
    (one,) = compared.tokenizers
    assert (one.tokens, one.bytes_per_token) == (51, 1.0)
    assert one.texts[1].characters_per_token == 9 / 14 and one.texts[1].fertility == (3 + 3 + 5 + 2) / 4
    assert (one.round_trip.documents, one.round_trip.exact) == (4, 4)
    assert list(one.frequencies) == sorted(Counter("".join("".join(text.documents) for text in TEXTS).encode()).values(), reverse=True)


@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any))
@settings(max_examples=60, deadline=None)
def test_use_of_the_vocabulary_is_what_its_definition_says(counts: list[int]) -> None:
    use = use_of(np.asarray(counts), 1)
    parts = [count / sum(counts) for count in counts if count]
    assert (use.seen, use.dead) == (len(parts), max(len(counts) - 1 - len(parts), 0))
    assert use.entropy_bits == pytest.approx(-sum(part * math.log2(part) for part in parts), abs=1e-9)
    renyi = math.log(sum(part**2.5 for part in parts)) / (1 - 2.5)
    assert use.renyi_efficiency == pytest.approx(renyi / math.log(len(counts)), abs=1e-9)


def test_ids_that_are_all_as_frequent_are_used_to_the_full() -> None:
    assert use_of(np.full(64, 3), 0).renyi_efficiency == pytest.approx(1.0) and use_of(np.full(64, 3), 0).entropy_bits == pytest.approx(6.0)


@pytest.mark.skipif(not GPT2.exists(), reason=f"{GPT2} is not here")
def test_gpt2_is_as_it_is_known_to_be() -> None:
    gpt2 = Pretrained.train(PretrainedParams(path=str(GPT2)), ())
    found = whitespace_of(gpt2)
    # GPT-2 has no token for several spaces before a word: each is one.
    assert found.space == "before the word" and found.indents["8 spaces"] == 7
    assert digits_of(gpt2).direction == "learned" and digits_of(gpt2).pieces == ["123", "45", "67"]
    document = compare({"gpt2": gpt2}, TEXTS, rounds=1).document()
    assert document["tokenizers"][0]["vocab_size"] == 50257 and document["tokenizers"][0]["roles"] == {"eos_token": "<|endoftext|>"}


def test_speeds_are_rounds_in_turn_and_a_faster_tokenizer_is_faster() -> None:
    class Slow(Cuts):
        def encode_batch(self, texts: Any, *, specials: bool = False) -> list[list[int]]:
            order.append("slow")
            return [self.encode(text) for _ in range(30) for text in texts][: len(texts)]

    class Fast(Cuts):
        def encode_batch(self, texts: Any, *, specials: bool = False) -> list[list[int]]:
            order.append("fast")
            return [self.encode(text) for text in texts]

    order: list[str] = []
    found = compare({"slow": Slow("."), "fast": Fast(".")}, [Text("a", ["some text " * 200])], rounds=3).tokenizers
    assert order == ["slow", "fast"] * 4
    assert found[0].encode.median < found[1].encode.median
    assert all(speed.low <= speed.median <= speed.high for one in found for speed in (one.encode, one.decode))


def test_a_bpe_trained_on_one_text_is_better_on_it() -> None:
    texts = [Text("words", ["the quick brown fox jumps over the lazy dog " * 20]), Text("signs", ["{}[]();:=+-" * 40])]
    made = {text.name: BytePair.train(BpeParams(vocab_size=300), text.documents) for text in texts}
    words, signs = compare(made, texts, rounds=1).tokenizers
    assert words.texts[0].bytes_per_token > signs.texts[0].bytes_per_token
    assert words.texts[1].bytes_per_token < signs.texts[1].bytes_per_token
    assert words.texts[1].fertility is None and words.texts[1].whole_words is None


def test_texts_are_read_by_name_and_no_more_of_them_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("a = 1\n")
    (tmp_path / "code" / "b.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.txt").write_text("".join(f"line {number}\n" for number in range(20_000)))
    found = places([f"{tmp_path}/code", f"en={tmp_path}/long.txt", f"en={tmp_path}/code/*.py"])
    assert [place.name for place in found] == ["code", "en", "en"]
    code, en = gathered(((place.name, documents_of(place)) for place in found), 50_000)
    assert code == Text("code", ["a = 1\n"])
    assert en.name == "en" and 40_000 < sum(map(len, en.documents)) <= 50_000


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (None, "nothing.txt", "it does not exist"),
        (None, "*.nothing", "no file matches it"),
        ("folder", "folder", "there is no file in it"),
        (b"caf\xe9", "latin.txt", "no UTF-8 text"),
        (b" \n", "blank.txt", "there is no text in 'blank.txt'"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(make: Any, argument: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / argument
    if isinstance(make, bytes):
        path.write_bytes(make)
    elif make:
        path.mkdir()
    with pytest.raises(UserError, match=message):
        gathered(((place.name, documents_of(place)) for place in places([str(path)])), 1000)


def test_a_text_without_line_ends_is_read_to_its_end(tmp_path: Path) -> None:
    text = "\ufeff" + "一二三" * 300_000
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    assert "".join(documents_of(places([str(tmp_path / "long.txt")])[0])) == text[1:]


def test_a_text_that_ends_within_a_character_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "torn.txt").write_bytes("naïve 一".encode()[:-1])
    with pytest.raises(UserError, match="is no UTF-8 text"):
        list(documents_of(places([str(tmp_path / "torn.txt")])[0]))


def test_a_tokenizer_that_makes_no_token_of_a_text_is_told() -> None:
    with pytest.raises(UserError, match="nothing makes no token of the text 'signs'"):
        compare({"bytes": BYTES, "nothing": Cuts(r"[a-z]+", lossy=True)}, [Text("signs", ["+++"])], rounds=1)
