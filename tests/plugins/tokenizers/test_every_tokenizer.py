"""What holds for every tokenizer that llmkit ships."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.tokenizer import END_OF_TEXT, PADDING, Tokenizer

SPECIALS = [END_OF_TEXT, PADDING, "<|user|>", "<|user|>x", "[INST]"]
nasty = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from([*SPECIALS, "<|", "|>", "endoftext", "\r\n", " \t ", "\0", "  "])), max_size=10
).map("".join)
surrogates = st.text(st.characters(categories=["Cs", "L", "So"]), max_size=20)


@given(text=nasty)
@settings(max_examples=60, deadline=None)
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text), skip_specials=False) == text


@given(text=nasty)
@settings(max_examples=60, deadline=None)
def test_plain_text_never_makes_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    specials = set(tokenizer.special_tokens.values())
    assert specials.isdisjoint(tokenizer.encode(text))
    assert specials.isdisjoint(tokenizer.encode_offsets(text)[0])


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_token_is_made_where_it_is_asked_for(tokenizer: Tokenizer, special: str) -> None:
    index = tokenizer.special_tokens[special]
    assert tokenizer.encode(f"a{special}b", specials=True) == [*tokenizer.encode("a"), index, *tokenizer.encode("b")]
    assert index not in tokenizer.encode(f"a{special}b")


@given(text=nasty)
@settings(max_examples=40, deadline=None)
def test_special_tokens_written_in_text_come_back_unless_skipped(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, specials=True)
    assert tokenizer.decode(ids, skip_specials=False) == text
    ordinary = [index for index in ids if index not in tokenizer.special_tokens.values()]
    assert tokenizer.decode(ids) == tokenizer.decode(ordinary)


@given(text=nasty)
@settings(max_examples=40, deadline=None)
def test_spans_cover_the_text_in_order(tokenizer: Tokenizer, text: str) -> None:
    ids, spans = tokenizer.encode_offsets(text)
    assert ids == tokenizer.encode(text)
    covered = 0
    for start, end in spans:
        assert start <= covered <= end <= len(text) and start < end
        covered = end
    assert covered == len(text)


@given(text=surrogates)
@settings(max_examples=40, deadline=None)
def test_half_a_pair_is_read_as_the_replacement_character(tokenizer: Tokenizer, text: str) -> None:
    whole = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert tokenizer.decode(tokenizer.encode(text)) == whole
    assert tokenizer.encode_offsets(text)[0] == tokenizer.encode(text)


def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer) -> None:
    texts = ["", "hello world", "<|endoftext|>", "\ud800x", "你好"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts, specials=True) == [tokenizer.encode(text, specials=True) for text in texts]


def test_the_empty_text_has_no_tokens_and_nothing_is_added_to_any(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == [] and tokenizer.encode("", specials=True) == [] and tokenizer.decode([]) == ""
    assert tokenizer.encode_offsets("") == ([], [])


def test_bytes_that_are_no_utf8_decode_to_the_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("é")[:1]) in ("\ufffd", "é")
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("\U0010fffe")[:1])


def test_ids_are_below_the_vocabulary_size_and_the_declared_size_is_its_bound(tokenizer: Tokenizer) -> None:
    every = [*tokenizer.special_tokens.values(), *tokenizer.encode("".join(map(chr, range(0x400))))]
    assert max(every) < tokenizer.vocab_size <= tokenizer.params.vocab_size  # type: ignore[attr-defined]


def test_what_is_saved_loads_as_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = type(tokenizer).load(tokenizer.params, tmp_path)  # type: ignore[attr-defined]
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert loaded.special_tokens == tokenizer.special_tokens
    assert (loaded.eos_id, loaded.bos_id, loaded.pad_id) == (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id)
    text = "don't <|user|> panic, 世界"
    assert loaded.encode(text) == tokenizer.encode(text)


@pytest.mark.slow
def test_transformers_loads_the_saved_tokenizer_and_gives_the_same_ids(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    texts = ["don't panic", "  def f(x):\n\treturn 12345\r\n", "naïve 世界 🦙", "a<|user|>b", "<|endoftext|>", "x <|user|>x [INST] y", ""]
    for text in texts:
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text, specials=True)
        assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.eos_token_id == tokenizer.eos_id and theirs.pad_token_id == tokenizer.pad_id and theirs.bos_token_id == tokenizer.bos_id
    assert len(theirs) == tokenizer.vocab_size


def test_the_roles_are_end_of_text_and_padding(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.special_tokens[END_OF_TEXT]
    assert tokenizer.pad_id == tokenizer.special_tokens[PADDING]
    assert tokenizer.stop_ids == {tokenizer.eos_id}
