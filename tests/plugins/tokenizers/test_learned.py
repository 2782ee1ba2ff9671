"""The tokenizers `wordpiece`, `unigram` and `char`."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.plugins.tokenizers.character import Character
from llmkit.plugins.tokenizers.components import CharParams, UnigramParams, WordPieceParams
from llmkit.plugins.tokenizers.unigram import Unigram
from llmkit.plugins.tokenizers.word_piece import CONTINUED, WordPiece

TEXTS = ["low lower lowest newer newest wider widest", "the lowest of the newer ones isn't the widest, ## or # or ### not"] * 20
words = st.text(alphabet="lowernstid", min_size=1, max_size=12)


@cache
def word_piece() -> WordPiece:
    return WordPiece.train(WordPieceParams(vocab_size=560), TEXTS)


@cache
def unigram() -> Unigram:
    return Unigram.train(UnigramParams(vocab_size=300), TEXTS)


def pieces(tokenizer: Any) -> Any:
    """The vocabulary as the library has it: token -> id, or a list of (piece, log probability)."""
    return json.loads(tokenizer._plain.to_str())["model"]["vocab"]


@given(word=words)
@settings(max_examples=100, deadline=None)
def test_wordpiece_takes_the_longest_piece_each_time(word: str) -> None:
    vocabulary = pieces(word_piece())
    expected, start = [], 0
    while start < len(word):
        mark = CONTINUED if start else ""
        end = next(end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary)
        expected.append(vocabulary[mark + word[start:end]])
        start = end
    assert word_piece().encode(word) == expected


def test_a_piece_inside_a_word_is_another_than_at_its_beginning() -> None:
    vocabulary = pieces(word_piece())
    inside, alone = vocabulary[f"{CONTINUED}est"], word_piece().encode("est")
    assert inside in word_piece().encode("lowest") and inside not in alone


def test_the_sign_of_berts_continued_pieces_is_text() -> None:
    for text in ("##", "##est", "low##est ### #", "‿est low‿est"):
        assert word_piece().decode(word_piece().encode(text)) == text
        assert word_piece().encode(text) != word_piece().encode(text.replace("##", "").replace("‿", ""))


def test_a_word_without_end_is_cut_and_survives() -> None:
    text = "lower" * 20_000
    ids, spans = word_piece().encode_offsets(text)
    assert word_piece().decode(ids) == text and spans[-1][1] == len(text)


@given(word=words)
@settings(max_examples=100, deadline=None)
def test_unigram_takes_the_likeliest_cut(word: str) -> None:
    scores = dict(map(tuple, pieces(unigram())))
    best = [0.0, *[-inf] * len(word)]
    for end in range(1, len(word) + 1):
        best[end] = max(best[start] + scores.get(word[start:end], -inf) for start in range(end))
    names = [piece for piece, _ in pieces(unigram())]
    found = [names[index] for index in unigram().encode(word)]
    assert "".join(found) == word and sum(map(scores.__getitem__, found)) == pytest.approx(best[-1])


def test_unigrams_pieces_go_from_the_likeliest_to_the_rarest_and_hold_every_byte() -> None:
    ordered = pieces(unigram())[2:]
    assert all(one[1] >= other[1] for one, other in pairwise(ordered))
    assert sum(len(piece) == 1 for piece, _ in ordered) == 256
    assert any(len(piece) > 3 for piece, _ in ordered) and max(len(piece) for piece, _ in ordered) <= 16


def test_a_frequent_word_that_is_in_no_other_is_one_piece() -> None:
    frequent = ["before", "further", "proceed", "citizen"]
    rare = [f"{left}{right}" for left in ("ba", "de", "ki", "lo", "mu") for right in ("rst", "nd", "ll", "mp", "sk", "ft")]
    tokenizer = Unigram.train(UnigramParams(vocab_size=300), [(" " + " ".join(frequent)) * 200 + " " + " ".join(rare)] * 3)
    assert [len(tokenizer.encode(f" {word}")) for word in frequent] == [1, 1, 1, 1]


@pytest.mark.slow
def test_unigram_needs_no_more_tokens_than_sentencepiece(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    file = Path(__file__).parents[4] / "shared/data/the-verdict/the-verdict.txt"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    lines = file.read_text(encoding="utf-8").splitlines()
    prefix = str(tmp_path / "theirs")
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=700, model_type="unigram", **plain
    )
    theirs = sum(map(len, sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model").encode(lines)))
    ours = sum(map(len, Unigram.train(UnigramParams(vocab_size=700), lines).encode_batch(lines)))
    assert ours < theirs


@pytest.mark.parametrize("length", [1, 3])
def test_no_piece_is_longer_than_asked_for(length: int) -> None:
    tokenizer = Unigram.train(UnigramParams(vocab_size=320, max_piece_length=length), TEXTS)
    assert max(len(piece) for piece, _ in pieces(tokenizer)[2:]) == length


def test_what_order_a_hash_has_does_not_reach_the_ids_or_scores() -> None:
    again = [Unigram.train(UnigramParams(vocab_size=300), TEXTS).fingerprint() for _ in range(5)]
    assert set(again) == {unigram().fingerprint()}
    assert {WordPiece.train(WordPieceParams(vocab_size=560), TEXTS).fingerprint() for _ in range(5)} == {word_piece().fingerprint()}


def test_unigram_without_any_text_says_so() -> None:
    with pytest.raises(UserError, match="no text to learn from"):
        Unigram.train(UnigramParams(vocab_size=300), [""])


def test_char_has_the_characters_by_frequency_and_then_by_code_point() -> None:
    texts = ["banana", "bandana 🦙", "ñ"]
    tokenizer = Character.train(CharParams(vocab_size=400), texts)
    counts = Counter("".join(texts))
    expected = sorted(counts, key=lambda character: (-counts[character], character))
    assert [index for character in expected for index in tokenizer.encode(character)] == list(range(258, 258 + len(expected)))
    assert tokenizer.vocab_size == 258 + len(expected)


def test_a_character_that_there_is_no_token_for_is_its_bytes() -> None:
    tokenizer = Character.train(CharParams(vocab_size=400), ["ab"])
    assert tokenizer.encode("aé🦙") == [258, *(2 + byte for byte in "é🦙".encode())]
    assert tokenizer.decode(tokenizer.encode("<0x41> aé🦙")) == "<0x41> aé🦙"
    assert tokenizer.encode_offsets("aé")[1] == [(0, 1), (1, 2), (1, 2)]


def test_char_keeps_as_many_as_there_is_room_for_and_as_are_frequent_enough() -> None:
    assert Character.train(CharParams(vocab_size=260), ["aaabbc"]).encode("abc") == [258, 259, 2 + ord("c")]
    assert Character.train(CharParams(vocab_size=300, min_frequency=3), ["aaabbc"]).encode("abc") == [258, 2 + ord("b"), 2 + ord("c")]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "char"])
def test_a_small_text_yields_fewer_ids_than_declared(kind: str) -> None:
    made: dict[str, tuple[type[Any], Any]] = {
        "wordpiece": (WordPiece, WordPieceParams(vocab_size=5000)),
        "unigram": (Unigram, UnigramParams(vocab_size=5000)),
        "char": (Character, CharParams(vocab_size=5000)),
    }
    tokenizer: Tokenizer = made[kind][0].train(made[kind][1], ["abc abc"])
    assert made[kind][1].vocab_size == 5000 and 258 <= tokenizer.vocab_size < 600


def test_too_small_vocabularies_are_refused_with_what_they_need() -> None:
    with pytest.raises(ValidationError, match="256 bytes in 2 forms and 2 special tokens need 514"):
        WordPieceParams(vocab_size=513)
    for params in (UnigramParams, CharParams):
        with pytest.raises(ValidationError, match="need 258"):
            params(vocab_size=257)


@pytest.mark.parametrize(("kind", "params"), [(WordPiece, WordPieceParams), (Unigram, UnigramParams)])
def test_a_special_token_that_reads_like_text_is_refused(kind: Any, params: Any) -> None:
    with pytest.raises(UserError, match="reads like ordinary text"):
        kind.train(params(vocab_size=600, special_tokens=["user"]), TEXTS)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    unigram().save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Unigram.load(unigram().params, tmp_path)
