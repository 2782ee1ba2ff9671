"""How well a model predicts text: loss, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, Evaluator, LanguageModel, Score
from llmkit.core.interfaces.source import Document


class Perplexity(Evaluator):
    """Three numbers over all documents i, with nats y_i (end-of-text included), tokens t_i and UTF-8 bytes b_i:

        loss           L = sum y_i / sum t_i           nats a token
        perplexity     exp(L)
        bits_per_byte  sum y_i / (ln 2 sum b_i)        the one to compare where tokenizers differ

    The text is a sample of documents, not of tokens: tokens of one document are alike, so each document is a cluster and both
    L and bits per byte are ratio estimators (see `ratio`). The standard error of the perplexity is exp(L) times that of L, the
    delta method. What no standard error says: how another seed of training would have done.
    """

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        if documents is None:
            raise UserError("evaluator perplexity needs documents, and this run has no validation text; give some with --data FILE")
        scored = lm.stream(documents)
        if not scored:
            raise UserError("evaluator perplexity got no documents: the validation text is empty; give some with --data FILE")
        nats = [document.nats for document in scored]
        loss, loss_error = ratio(nats, [document.tokens for document in scored])
        bits, bits_error = ratio([value / math.log(2) for value in nats], [document.bytes for document in scored])
        perplexity = _exp(loss)
        perplexity_error = None if loss_error is None else perplexity * loss_error
        n = len(scored)
        return Evaluation(
            [
                Score("loss", loss, loss_error, n),
                Score("perplexity", perplexity, perplexity_error, n),
                Score("bits_per_byte", bits, bits_error, n),
            ],
            [document._asdict() for document in scored],
        )


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float | None]:
    """R = sum y / sum x over n independent clusters, and its standard error, linearised (Cochran, Sampling Techniques, 1977, 6.4):

        se(R) = sqrt(n / (n - 1) * sum (y_i - R x_i)^2) / sum x

    None where there is one cluster only, and (nan, None) where the denominators sum to 0.
    """
    n, whole = len(numerators), math.fsum(denominators)
    if whole == 0:
        return math.nan, None
    value = math.fsum(numerators) / whole
    if n == 1:
        return value, None
    squares = math.fsum((y - value * x) ** 2 for y, x in zip(numerators, denominators, strict=True))
    return value, math.sqrt(n / (n - 1) * squares) / whole


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
