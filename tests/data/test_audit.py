"""The audit of a deduplicator, beside the same figures reckoned pair by pair."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llmkit.core.component import Chosen
from llmkit.core.interfaces.deduplicator import Deduplicator, Ragged
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind
from llmkit.data import audit as module
from llmkit.data import deduplicating
from llmkit.data.audit import audit
from llmkit.data.deduplicating import Sketching, sampled_texts
from llmkit.data.document_shards import Row, ShardWriter
from llmkit.data.funnel import Audit
from llmkit.data.workers import Task
from llmkit.plugins.deduplicators.components import ExactParams, MinHashParams
from llmkit.plugins.deduplicators.exact import Exact
from llmkit.plugins.deduplicators.minhash import MinHash
from llmkit.runtime import catalog

N = 5


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + N]) for start in range(len(words) - N + 1)}


def jaccard(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    return len(first & second) / len(first | second)


def family(rng: random.Random, length: int) -> list[str]:
    """A text and copies of it with more and more of its words replaced."""
    words = [f"w{rng.randrange(10**7)}" for _ in range(length)]
    copies = []
    for edits in (0, 0, 1, length // 40, length // 20, length // 8):
        copy = list(words)
        for place in rng.sample(range(length), edits):
            copy[place] = f"new{rng.randrange(10**7)}"
        copies.append(" ".join(copy))
    return copies


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(0)
    found = [text for _ in range(25) for text in family(rng, rng.randint(40, 160))]
    rng.shuffle(found)
    return found


def keeper_of(deduplicator: Deduplicator, texts: list[str]) -> NDArray[np.int64]:
    rows = deduplicator.sketch([Document(str(number), text) for number, text in enumerate(texts)])
    starts = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return deduplicator.resolve(Ragged(np.concatenate(rows), starts), np.ones(len(texts), np.int64)).keeper


def audited(deduplicator: Deduplicator, texts: list[str], keeper: NDArray[np.int64] | None = None) -> Audit:
    found = audit(deduplicator, texts, keeper_of(deduplicator, texts) if keeper is None else keeper)
    assert found is not None
    return found


@pytest.mark.parametrize("rows_at_once", [256, 7])
@pytest.mark.parametrize("threshold", [None, 0.75])
def test_recall_precision_and_curve_are_those_of_all_pairs_one_by_one(
    texts: list[str], threshold: float | None, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", rows_at_once)
    deduplicator = MinHash(MinHashParams(threshold=threshold))
    keeper = keeper_of(deduplicator, texts)
    report = audited(deduplicator, texts, keeper)
    runs = [runs_of(text) for text in texts]
    pairs = [(jaccard(runs[one], runs[other]), keeper[one] == keeper[other]) for one, other in combinations(range(len(texts)), 2)]
    duplicates = [found for similarity, found in pairs if similarity >= report.threshold]
    everything_found = [similarity for similarity, found in pairs if found]
    assert (report.documents, report.duplicates, report.found) == (len(texts), len(duplicates), len(everything_found))
    assert report.recall == pytest.approx(np.mean(duplicates))
    assert report.precision == pytest.approx(np.mean([similarity >= report.threshold for similarity in everything_found]))
    assert sum(point.pairs for point in report.curve) == len(pairs)
    for point in report.curve:
        here = [(similarity, found) for similarity, found in pairs if point.low <= similarity < point.high + (point.high == 1)]
        assert (point.pairs, point.found) == (len(here), sum(found for _, found in here))
        if here:
            assert point.expected == pytest.approx(np.mean([deduplicator.match_rate(similarity) for similarity, _ in here]))


@pytest.mark.parametrize(("params", "threshold"), [({}, 0.75), ({"threshold": 0.9}, 0.9), ({"threshold": None}, 0.69)])
def test_the_threshold_is_where_theory_finds_half(texts: list[str], params: dict[str, float | None], threshold: float) -> None:
    assert audited(MinHash(MinHashParams(**params)), texts).threshold == threshold  # type: ignore[arg-type]


def test_a_deduplicator_that_finds_nothing_has_no_recall_and_no_precision(texts: list[str]) -> None:
    report = audited(MinHash(MinHashParams()), texts, np.arange(len(texts)))
    assert (report.found, report.recall, report.precision) == (0, 0.0, None)
    assert report.duplicates > 0


def test_one_that_finds_everything_has_all_recall_and_little_precision(texts: list[str]) -> None:
    report = audited(MinHash(MinHashParams()), texts, np.zeros(len(texts), np.int64))
    assert report.recall == 1
    assert report.precision == pytest.approx(report.duplicates / (len(texts) * (len(texts) - 1) / 2))
    assert report.curve[0].found == report.curve[0].pairs > 0


@pytest.mark.parametrize("few", [[], ["a single text"], ["two", "texts"]])
def test_where_there_is_no_pair_of_duplicates_there_is_no_recall(few: list[str]) -> None:
    report = audited(MinHash(MinHashParams()), few, np.arange(len(few)))
    assert (report.duplicates, report.recall, report.precision) == (0, None, None)
    assert sum(point.pairs for point in report.curve) == len(few) // 2


def test_a_deduplicator_that_estimates_no_similarity_is_not_audited() -> None:
    assert audit(Exact(ExactParams()), ["one", "one"], np.array([0, 0])) is None


@pytest.mark.parametrize("threshold", [None, 0.75])
def test_a_sample_of_a_tenth_of_the_documents_has_a_tenth_of_the_pairs(
    tmp_path: Path, threshold: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn document by document it would have a hundredth of them, and of a large corpus none."""
    rng = random.Random(0)
    texts = [text for _ in range(400) for text in family(rng, 60)[::2]]
    rng.shuffle(texts)
    half = len(texts) // 2
    for number, some in enumerate((texts[:half], texts[half:])):
        with ShardWriter(tmp_path / f"{number}.parquet") as writer:
            for name, text in enumerate(some):
                writer.add(Row(Document(f"{number}-{name}", text), 0))
    paths = (tmp_path / "0.parquet", tmp_path / "1.parquet")
    chosen = Chosen(catalog().find(Kind.deduplicator, "minhash"), MinHashParams(threshold=threshold))
    for index in range(2):
        Sketching(paths, chosen).run(tmp_path, Task(index))
    sample = sampled_texts(chosen.make(), paths, tmp_path, len(texts) // 10)
    assert len(sample) == len(texts) // 10
    assert sample == [text for text in texts if text in set(sample)]
    monkeypatch.setattr(deduplicating, "SAMPLED_BYTES", sum(len(text) for text in sample[:50]))
    assert 10 < len(sampled_texts(chosen.make(), paths, tmp_path, len(texts))) < 60
    pairs_of_all, pairs = (audited(MinHash(MinHashParams()), some).duplicates for some in (texts, sample))
    assert pairs_of_all / 15 < pairs < pairs_of_all / 7
