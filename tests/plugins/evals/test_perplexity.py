"""Perplexity's numbers and errors against numpy, the bootstrap and the jackknife."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import DocumentScore, LogLikelihood, Score
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.plugins.evals.components import PerplexityParams
from llmkit.plugins.evals.perplexity import Perplexity, ratio


class Recorded:
    """A language model whose scores were written down: the evaluator sees nothing else of a model."""

    def __init__(self, scores: Sequence[DocumentScore]) -> None:
        self.scores = list(scores)

    @property
    def tokenizer(self) -> Tokenizer:
        raise AssertionError("perplexity has no use for the tokenizer")

    @property
    def max_seq_len(self) -> int:
        return 8

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        raise AssertionError("perplexity scores documents")

    def stream(self, documents: Iterable[Document]) -> list[DocumentScore]:
        assert [document.id for document in documents] == [score.id for score in self.scores]
        return self.scores

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
        raise AssertionError("perplexity generates nothing")


def evaluate(scores: Sequence[DocumentScore]) -> tuple[dict[str, Score], list[dict[str, object]]]:
    documents = [Document(score.id, "x" * score.bytes) for score in scores]
    evaluation = Perplexity(PerplexityParams())(Recorded(scores), documents)
    return {score.metric: score for score in evaluation.scores}, evaluation.items


def clustered(n: int, seed: int = 0) -> list[DocumentScore]:
    """Documents of unequal length whose tokens are alike: each has a difficulty of its own."""
    random = np.random.default_rng(seed)
    tokens = random.integers(5, 200, n)
    difficulty = random.normal(3.0, 0.4, n)
    nats = [random.gamma(20, rate / 20, count).sum() for rate, count in zip(difficulty, tokens)]
    return [DocumentScore(str(i), float(y), int(t), int(4 * t)) for i, (y, t) in enumerate(zip(nats, tokens))]


def test_the_three_numbers_are_what_their_names_mean() -> None:
    scores, items = evaluate([DocumentScore("a", 6.0, 4, 10), DocumentScore("b", 12.0, 5, 20)])
    assert scores["loss"].value == pytest.approx(2.0)
    assert scores["perplexity"].value == pytest.approx(math.exp(2.0))
    assert scores["bits_per_byte"].value == pytest.approx(18 / math.log(2) / 30)
    assert {score.n for score in scores.values()} == {2}
    assert items == [{"id": "a", "nats": 6.0, "tokens": 4, "bytes": 10}, {"id": "b", "nats": 12.0, "tokens": 5, "bytes": 20}]


def test_each_standard_error_is_that_of_the_bootstrap_over_documents() -> None:
    documents = clustered(400)
    scores, _ = evaluate(documents)
    nats, tokens, size = (np.array([getattr(document, name) for document in documents]) for name in ("nats", "tokens", "bytes"))
    statistics = {
        "loss": lambda y, t, b: y.sum(-1) / t.sum(-1),
        "perplexity": lambda y, t, b: np.exp(y.sum(-1) / t.sum(-1)),
        "bits_per_byte": lambda y, t, b: y.sum(-1) / math.log(2) / b.sum(-1),
    }
    for name, statistic in statistics.items():
        drawn = stats.bootstrap(
            (nats, tokens, size),
            lambda y, t, b, axis, statistic=statistic: statistic(y, t, b),
            paired=True,
            vectorized=True,
            n_resamples=4000,
            method="percentile",
            rng=np.random.default_rng(1),
        )
        assert scores[name].stderr == pytest.approx(drawn.standard_error, rel=0.06), name


def test_counting_tokens_as_independent_would_claim_far_more_than_is_known() -> None:
    documents = clustered(400)
    clusters = evaluate(documents)[0]["loss"].stderr
    token_deviation = math.sqrt(3.0**2 / 20 + 0.4**2)
    naive = token_deviation / math.sqrt(sum(document.tokens for document in documents))
    assert clusters is not None and clusters > 3 * naive


def test_the_interval_of_two_standard_errors_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        score = evaluate(clustered(150, seed + 1))[0]["loss"]
        assert score.stderr is not None
        held += abs(score.value - 3.0) < 1.976 * score.stderr
    assert stats.binomtest(held, 400, 0.95).pvalue > 0.001


numbers = st.lists(st.tuples(st.floats(0.1, 1e4), st.integers(1, 1000)), min_size=2, max_size=30)


@settings(max_examples=50)
@given(numbers, st.floats(0.5, 100))
def test_ratio_is_linear_in_its_numerator_and_a_mean_where_denominators_are_equal(rows: list[tuple[float, int]], by: float) -> None:
    y, x = (list(column) for column in zip(*rows))
    value, error = ratio(y, x)
    scaled, scaled_error = ratio([by * item for item in y], x)
    assert error is not None and scaled_error is not None
    assert scaled == pytest.approx(by * value) and scaled_error == pytest.approx(by * error, rel=1e-6, abs=1e-9)
    mean, mean_error = ratio(y, [7] * len(y))
    assert mean == pytest.approx(np.mean(y) / 7)
    assert mean_error == pytest.approx(stats.sem(y) / 7, rel=1e-6, abs=1e-9)


def test_one_document_has_no_standard_error() -> None:
    scores, _ = evaluate([DocumentScore("only", 6.0, 3, 12)])
    assert [score.stderr for score in scores.values()] == [None, None, None]
    assert scores["loss"].value == 2.0


def test_documents_without_a_byte_have_no_bits_per_byte() -> None:
    scores, _ = evaluate([DocumentScore("a", 2.0, 1, 0), DocumentScore("b", 4.0, 1, 0)])
    assert math.isnan(scores["bits_per_byte"].value) and scores["bits_per_byte"].stderr is None
    assert scores["loss"].value == 3.0


def test_a_model_that_gives_up_has_infinite_perplexity_and_no_crash() -> None:
    assert evaluate([DocumentScore("a", 9e5, 3, 12), DocumentScore("b", 9e5, 3, 12)])[0]["perplexity"].value == math.inf


def test_without_documents_it_says_what_to_give() -> None:
    evaluator = Perplexity(PerplexityParams())
    with pytest.raises(UserError, match="no validation text; give some with --data FILE"):
        evaluator(Recorded([]))
    with pytest.raises(UserError, match="got no documents"):
        evaluator(Recorded([]), [])
