"""The deduplicator `minhash`, beside exact Jaccard similarity of sets of words."""

from __future__ import annotations

import gzip
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from resolving import resolved

from llmkit.core.interfaces.source import Document
from llmkit.plugins.deduplicators import minhash
from llmkit.plugins.deduplicators.components import MinHashParams
from llmkit.plugins.deduplicators.minhash import MinHash

ARTICLES = Path(__file__).parents[3] / "../shared/data/dedup-minhash-articles"
Pair = frozenset[str]


def runs_of(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def jaccard(one: str, other: str) -> float:
    first, second = runs_of(one), runs_of(other)
    return len(first & second) / len(first | second)


def text_of(rng: random.Random, length: int) -> list[str]:
    return [f"w{rng.randrange(10**7)}" for _ in range(length)]


def edited(rng: random.Random, words: list[str], edits: int) -> list[str]:
    """A copy with so many words replaced, inserted or deleted, one after another at random places."""
    copy = list(words)
    for _ in range(edits):
        place = rng.randrange(len(copy))
        copy[place : place + rng.choice([0, 1, 1])] = rng.choice([[], ["new" + str(rng.randrange(10**7))]])
    return copy


def graded(pairs: int, length: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Texts 2i and 2i + 1 are a pair, of edits from none to many; and their similarities."""
    rng = random.Random(seed)
    texts: list[str] = []
    for number in range(pairs):
        words = text_of(rng, length)
        texts += [" ".join(words), " ".join(edited(rng, words, number * length // (8 * pairs)))]
    return texts, [jaccard(*texts[start : start + 2]) for start in range(0, len(texts), 2)]


def found_of(deduplicator: MinHash, texts: list[str]) -> list[bool]:
    keeper = resolved(deduplicator, texts).keeper
    assert (keeper[::2] == np.arange(0, len(texts), 2)).all(), "texts that have nothing in common are one cluster"
    return [bool(found) for found in keeper[1::2] == keeper[::2]]


@pytest.mark.parametrize("number", [100, 1000])
@pytest.mark.parametrize("threshold", [None, 0.75])
def test_every_planted_pair_of_the_articles_is_found_and_none_is_invented(number: int, threshold: float | None) -> None:
    if not ARTICLES.is_dir():
        pytest.skip("the articles with planted near-duplicates are not on this machine")
    with gzip.open(ARTICLES / f"articles_{number}.train.gz", "rt") as file:
        names, texts = zip(*(line.split(" ", 1) for line in file))
    planted = {frozenset(line.split()) for line in (ARTICLES / f"articles_{number}.truth").read_text().splitlines()}
    keeper = resolved(MinHash(MinHashParams(threshold=threshold)), texts).keeper
    assert {frozenset((names[index], names[kept])) for index, kept in enumerate(keeper) if kept != index} == planted


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 5), (3, 1)])
@pytest.mark.parametrize("length", [60, 300])
def test_pairs_of_graded_similarity_are_found_as_often_as_theory_says(bands: int, rows: int, length: int) -> None:
    texts, similarities = graded(1500, length)
    found = found_of(MinHash(MinHashParams(bands=bands, rows=rows, threshold=None)), texts)
    expected = [1 - (1 - similarity**rows) ** bands for similarity in similarities]
    for low in np.arange(0.4, 1, 0.1):
        here = [index for index, similarity in enumerate(similarities) if low <= similarity < low + 0.1]
        mean = sum(expected[index] for index in here)
        deviation = math.sqrt(sum(expected[index] * (1 - expected[index]) for index in here))
        assert len(here) > 10
        assert abs(sum(found[index] for index in here) - mean) <= 3.5 * deviation + 1e-3, f"similarity {low:.1f}"


def test_a_candidate_is_found_where_its_exact_similarity_reaches_the_threshold() -> None:
    texts, similarities = graded(300, 200)
    candidates = found_of(MinHash(MinHashParams(threshold=None)), texts)
    verified = found_of(MinHash(MinHashParams(threshold=0.8)), texts)
    assert verified == [candidate and similarity >= 0.8 for candidate, similarity in zip(candidates, similarities)]
    assert 30 < sum(verified) < sum(candidates) - 30


def test_long_documents_are_verified_by_a_sample_of_their_shingles() -> None:
    texts, similarities = graded(120, 3000)
    found = found_of(MinHash(MinHashParams(sample=1024)), texts)
    clear = [index for index, similarity in enumerate(similarities) if similarity > 0.9 or similarity < 0.75 - 5 * 0.5 / 32]
    assert len(clear) > 40
    assert [found[index] for index in clear] == [similarities[index] > 0.75 for index in clear]


def test_the_samples_estimate_is_unbiased_and_as_exact_as_is_said() -> None:
    texts, similarities = graded(200, 1500)
    deduplicator = MinHash(MinHashParams(sample=256))
    rows = deduplicator.sketch([Document("", text) for text in texts])
    estimates = [deduplicator._similarity(*rows[start : start + 2]) for start in range(0, len(rows), 2)]
    errors = np.array(estimates) - similarities
    assert errors.std() <= 0.5 / math.sqrt(256)
    assert abs(errors.mean()) <= 3 * errors.std() / math.sqrt(len(errors))


def test_what_is_alike_by_way_of_another_is_one_cluster() -> None:
    words = text_of(random.Random(0), 400)
    texts = [" ".join(words[start : start + 300]) for start in (0, 20, 40, 60)]
    assert jaccard(texts[0], texts[1]) > 0.8 > 0.72 > jaccard(texts[0], texts[3])
    assert resolved(MinHash(MinHashParams()), texts).keeper.tolist() == [0, 0, 0, 0]


def test_the_first_or_the_longest_copy_stays() -> None:
    words = " ".join(text_of(random.Random(0), 100))
    texts = ["other", words, words + " more", words + " more", words]
    assert resolved(MinHash(MinHashParams()), texts).keeper.tolist() == [0, 1, 1, 1, 1]
    assert resolved(MinHash(MinHashParams(keep="longest")), texts).keeper.tolist() == [0, 2, 2, 2, 2]


def test_ten_thousand_copies_of_one_document_are_one_cluster_in_no_time() -> None:
    text = " ".join(text_of(random.Random(0), 60))
    texts = [text] * 10_000
    start = time.perf_counter()
    assert not resolved(MinHash(MinHashParams()), texts).keeper.any()
    assert time.perf_counter() - start < 10


def test_in_a_bucket_of_more_documents_than_are_compared_near_duplicates_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of one template: all share a part, and a few have a copy."""
    monkeypatch.setattr(minhash, "NEIGHBOURS", 1)
    rng = random.Random(0)
    template = text_of(rng, 200)
    pages = [[*template, *text_of(rng, 60)] for _ in range(400)]
    copies = [edited(rng, page, 2) for page in pages[:100]]
    texts = [" ".join(page) for page in pages + copies]
    assert 0.6 < jaccard(texts[0], texts[1]) < 0.7 < 0.85 < jaccard(texts[0], texts[400])
    keeper = resolved(MinHash(MinHashParams()), texts).keeper
    assert keeper[:400].tolist() == list(range(400))
    assert keeper[400:].tolist() == list(range(100))


def test_a_text_of_few_words_is_equal_only_to_the_same_words() -> None:
    texts = ["Yes.", "yes", "yes no", "", "...", "...", "a b c d e f", "a b c d e g"]
    assert resolved(MinHash(MinHashParams()), texts).keeper.tolist() == [0, 0, 2, 3, 4, 4, 6, 7]


def test_a_seed_draws_other_permutations_and_the_same_again() -> None:
    documents = [Document("", text) for text in graded(20, 50)[0]]

    def bands(seed: int) -> list[list[int]]:
        return [row[:14].tolist() for row in MinHash(MinHashParams(seed=seed)).sketch(documents)]

    assert bands(1) == bands(1)
    assert not any(set(one) & set(other) for one, other in zip(bands(1), bands(2)))


@pytest.mark.parametrize(
    ("similarity", "rate"), [(0.5, 0.0533), (0.7, 0.5645), (0.75, 0.7716), (0.8, 0.9235), (0.85, 0.9884), (0.9, 0.9996)]
)
def test_the_match_rate_is_the_published_one(similarity: float, rate: float) -> None:
    assert MinHash(MinHashParams(threshold=None)).match_rate(similarity) == pytest.approx(rate, abs=5e-5)
    verified = MinHash(MinHashParams(threshold=0.75)).match_rate(similarity)
    assert verified == (pytest.approx(rate, abs=5e-5) if similarity >= 0.75 else 0)


def texts_at_once() -> Iterator[list[str]]:
    yield [" ".join(text_of(random.Random(number), 3000)) for number in range(30)]
    yield ["x " * 200_000, "short", "", "y" * 300_000]


@pytest.mark.parametrize("texts", texts_at_once())
def test_a_sketch_among_many_is_that_of_the_document_alone(texts: list[str]) -> None:
    deduplicator = MinHash(MinHashParams())
    together = deduplicator.sketch([Document("", text) for text in texts])
    for text, row in zip(texts, together, strict=True):
        assert row.tolist() == deduplicator.sketch([Document("", text)])[0].tolist()


@pytest.mark.parametrize("given", [{"words": 100_000}, {"bands": 10**9}, {"rows": 10**6}, {"words": 0}])
def test_numbers_that_would_take_days_or_all_memory_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        MinHashParams.model_validate(given)
