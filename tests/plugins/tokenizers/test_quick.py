"""The quick way to a tokenizer's ids: the library's own ids, or not taken."""

from __future__ import annotations

import json
import lzma
import pydoc_data.topics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.plugins.tokenizers import fast, quick
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams, PretrainedParams, UnigramParams, WordPieceParams
from llmkit.plugins.tokenizers.fast import FastTokenizer
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.unigram import Unigram
from llmkit.plugins.tokenizers.word_piece import WordPiece
from llmkit.testing.lawbook.tokenizer import NASTY

pytest.importorskip("gigatoken")

DATA = Path(__file__).parents[3] / "../shared/data"
FIXTURE = DATA / "tokenizer-fixtures/ggml-vocab-gpt-2.gguf.inp"
HARD = [*NASTY, *quick.HARD, *(FIXTURE.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n") if FIXTURE.exists() else ())]
REAL = list(pydoc_data.topics.topics.values())
LEARNED = [*REAL[:60], *HARD]

encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
texts = st.lists(st.one_of(encodable, st.sampled_from([*HARD, "'S", " \n", "12", "\u00a0", "\u0130"])), max_size=6).map("".join)


@pytest.fixture(scope="module", params=["gpt4-3", "gpt4-1", "gpt2-3", "pretrained"])
def tokenizer(request: pytest.FixtureRequest) -> FastTokenizer:
    if request.param == "pretrained":
        if not (DATA / "gpt2-tokenizer").exists():
            pytest.skip("../shared/data/gpt2-tokenizer is not here")
        return Pretrained.train(PretrainedParams(path=str(DATA / "gpt2-tokenizer")), ())
    pattern, digits = request.param.split("-")
    params = BpeParams(vocab_size=1500, pattern=pattern, digits=int(digits), special_tokens=["<|user|>"])
    return BytePair.train(params, LEARNED)


def tried_anew(tokenizer: FastTokenizer) -> quick.Quick | None:
    """As `quick.quick`, whatever was found in this process before."""
    return quick._proved.__wrapped__(tokenizer._plain.to_str())


def way_of(tokenizer: FastTokenizer) -> quick.Quick:
    found = quick.quick(tokenizer._plain)
    assert found is not None
    return found


def test_hard_strings_have_the_ids_of_the_library(tokenizer: FastTokenizer) -> None:
    way = way_of(tokenizer)
    assert len(HARD) > 25
    for text in HARD:
        assert way.encode(text).tolist() == tokenizer.encode(text)


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_any_text_has_the_ids_of_the_library(tokenizer: FastTokenizer, data: st.DataObject) -> None:
    some = data.draw(st.lists(texts, min_size=1, max_size=30))
    assert quick.first_difference(way_of(tokenizer), tokenizer._plain, some) is None


def test_real_text_has_the_ids_of_the_library(tokenizer: FastTokenizer) -> None:
    assert sum(map(len, REAL)) > 400_000
    for found, expected in zip(tokenizer.encode_arrays(REAL), tokenizer.encode_batch(REAL), strict=True):
        assert found.dtype == np.uint32 and found.tolist() == expected


@pytest.mark.slow
def test_a_twelfth_of_all_characters_has_the_ids_of_the_library(tokenizer: FastTokenizer) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and (code < 0x32000 or code >= 0xE0000)]
    rows = ["".join(f"a{one}b {one}1{one}\n" for one in characters[start : start + 500]) for start in range(0, len(characters), 500)]
    assert quick.first_difference(way_of(tokenizer), tokenizer._plain, rows[::12]) is None


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "classic-books").exists(), reason="../shared/data/classic-books is not here")
def test_books_have_the_ids_of_the_library(tokenizer: FastTokenizer) -> None:
    with lzma.open(DATA / "classic-books/classic-books-pre1900.jsonl.xz", "rt", encoding="utf-8") as file:
        book = json.loads(file.readline())["text"]
    assert quick.first_difference(way_of(tokenizer), tokenizer._plain, [book[:700_000]]) is None


def test_special_tokens_and_half_pairs_are_text(tokenizer: FastTokenizer) -> None:
    special = next(iter(tokenizer.special_tokens))
    rows = [f"{special} " * 9, "half a \ud800 pair", "x" * fast.MANY]
    found = tokenizer.encode_arrays(rows)
    assert [ids.tolist() for ids in found] == tokenizer.encode_batch(rows)
    assert not set(found[0].tolist()) & set(tokenizer.special_tokens.values())


def test_it_is_made_anew_before_it_remembers_too_much(tokenizer: FastTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    way = way_of(tokenizer)
    monkeypatch.setattr(quick, "RENEWED", 100)
    way._left = 0
    made = set()
    for text in ["some words " * 5] * 4:
        assert way.encode(text).tolist() == tokenizer.encode(text)
        made.add(id(way._tokenizer))
    assert len(made) > 1


@pytest.mark.parametrize(
    "made",
    [
        lambda: BytePair.train(BpeParams(vocab_size=600, digits=2), LEARNED),
        lambda: Unigram.train(UnigramParams(vocab_size=400), REAL[:20]),
        lambda: WordPiece.train(WordPieceParams(vocab_size=700), REAL[:20]),
    ],
    ids=["digits", "unigram", "wordpiece"],
)
def test_what_it_cannot_express_is_encoded_as_always(made: Any) -> None:
    tokenizer = made()
    assert quick.quick(tokenizer._plain) is None
    assert [ids.tolist() for ids in tokenizer.encode_arrays(REAL[:40])] == tokenizer.encode_batch(REAL[:40])


def test_a_normaliser_and_tokens_that_are_found_in_plain_text_are_not_expressed() -> None:
    tokenizer = BytePair.train(BpeParams(vocab_size=600), LEARNED)
    document = json.loads(tokenizer._plain.to_str())
    assert quick._expressible(document) is not None
    assert quick._expressible(document | {"normalizer": {"type": "NFC"}}) is None
    assert quick._expressible(document | {"added_tokens": [{"content": "word", "special": False}]}) is None
    assert quick._expressible(document | {"model": document["model"] | {"dropout": 0.1}}) is None


def test_without_the_package_text_is_encoded_as_always(tokenizer: FastTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert tried_anew(tokenizer) is None
    monkeypatch.setattr(tokenizer, "_quick", None)
    assert sum(map(len, REAL[:40])) > fast.MANY
    assert [ids.tolist() for ids in tokenizer.encode_arrays(REAL[:40])] == tokenizer.encode_batch(REAL[:40])


class _Liar:
    """A tokenizer that is right, but for one word."""

    def __init__(self, way: Any, wrong: str) -> None:
        self.way, self.wrong = way, wrong

    def encode(self, text: str) -> Any:
        ids = self.way.encode(text)
        return ids[::-1] if self.wrong in text else ids


def test_a_package_that_gives_other_ids_is_not_used_and_that_is_said(tokenizer: FastTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    import gigatoken

    honest = gigatoken.Tokenizer.from_json
    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", lambda description: _Liar(honest(description), "camelCase"))
    with pytest.warns(UserWarning, match="gigatoken gives other ids than tokenizers for 'camelCase"):
        assert tried_anew(tokenizer) is None


def test_a_difference_that_shows_later_is_an_error_and_no_wrong_tokens(tokenizer: FastTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    way = way_of(tokenizer)
    monkeypatch.setattr(way, "_tokenizer", _Liar(way._tokenizer, "a rare word"))
    monkeypatch.setattr(tokenizer, "_quick", way)
    with pytest.raises(UserError, match=r"gigatoken gives other ids.*a rare word.*pip uninstall gigatoken"):
        tokenizer.encode_arrays(["here is a rare word", "x " * fast.MANY])
