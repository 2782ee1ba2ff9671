"""The sample that tokenizers learn from."""

from __future__ import annotations

import random
import tracemalloc
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.sample import PASSAGE, sampled
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams

texts = st.lists(st.lists(st.sampled_from(["a", "é\n", "\n\n", "word " * 300, "x" * 5000, "\ud800"]), max_size=8).map("".join), max_size=6)


def size(parts: list[str]) -> int:
    return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)


@given(texts=texts)
@settings(max_examples=60, deadline=None)
def test_a_text_that_fits_is_learned_from_as_it_is(texts: list[str]) -> None:
    assert list(sampled(texts, None)) == texts
    assert list(sampled(texts, max(size(texts), 1))) == [text for text in texts if text]


@given(texts=texts, most=st.integers(1, 20_000))
@settings(max_examples=60, deadline=None)
def test_the_sample_is_the_passages_whose_hashes_come_first(texts: list[str], most: int) -> None:
    passages = [passage for text in texts for passage in PASSAGE.findall(text)]
    assert "".join(passages) == "".join(texts)
    ordered = sorted(passages, key=lambda passage: blake2b(passage.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    expected: list[str] = []
    for passage in ordered:
        if expected and size([*expected, passage]) > most:
            break
        expected.append(passage)
    assert sorted("".join(sampled(texts, most))) == sorted("".join(expected))


def test_the_order_of_the_texts_does_not_matter_and_every_text_is_in_it() -> None:
    numbers = random.Random(0)
    texts = ["\n".join(f"{name} {numbers.random()}" for _ in range(20_000)) for name in "abcd"]
    found = list(sampled(texts, 600_000))
    assert sorted(found) == sorted(sampled(reversed(texts), 600_000))
    assert 590_000 < size(found) <= 600_000
    assert [text[0] for text in found] == list("abcd") and all(100_000 < len(text) < 200_000 for text in found)


def test_a_sampled_tokenizer_is_the_one_of_the_sample() -> None:
    numbers = random.Random(0)
    texts = ["\n".join(f"word{numbers.randrange(100)} {numbers.random()}" for _ in range(3000)) for _ in range(3)]
    made = BytePair.train(BpeParams(vocab_size=400, sample_bytes=30_000), texts)
    assert made.fingerprint() == BytePair.train(BpeParams(vocab_size=400), sampled(texts, 30_000)).fingerprint()
    assert made.fingerprint() != BytePair.train(BpeParams(vocab_size=400), texts).fingerprint()


@pytest.mark.parametrize("documents", [50, 500])
def test_no_more_is_held_than_the_sample(documents: int) -> None:
    numbers = random.Random(0)
    stream = ("".join(f"{numbers.random()}\n" for _ in range(500)) for _ in range(documents))
    tracemalloc.start()
    try:
        kept = size(list(sampled(stream, 200_000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept <= 200_000 and peak < 1_200_000
