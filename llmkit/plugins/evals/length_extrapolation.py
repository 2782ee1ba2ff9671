"""Length extrapolation: a task at the length of training, and at several times that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, Evaluator, LanguageModel, Score
from llmkit.core.interfaces.source import Document
from llmkit.plugins.evals.components import LengthExtrapolationParams
from llmkit.plugins.evals.probe import accuracy, as_documents, ask, check_tokenizer, items, longest
from llmkit.plugins.tasks.task import asked


class LengthExtrapolation(Evaluator):
    """The accuracy of a task at every factor times its greatest length (Press et al. 2021, arXiv 2108.12409), and how far the model reads:

        accuracy_at_<f>x  part of the answers that are right in held-out instances of f times the length, all of that length; NaN (null)
                          where they are longer than `max_seq_len`, beyond which a learned position has nothing to say
        read_up_to        the largest factor that the model reads: a multiple of the task's length
        chance            the accuracy of guessing

    Train with `train.seq_len` at the task's length and `model.max_seq_len` at the longest that is asked. `accuracy_at_1x` is of the
    greatest length, where a task of varying length is hardest. `n` counts instances. `UserError` where not even the smallest factor fits.
    """

    params: LengthExtrapolationParams

    def __call__(self, lm: LanguageModel, documents: Iterable[Document] | None = None) -> Evaluation:
        params = self.params
        check_tokenizer(lm, params.task)
        scores: list[Score] = []
        rows: list[dict[str, Any]] = []
        read = 0
        for factor in params.factors:
            task = params.task.longer(factor)
            instances = asked(task, params.seed, params.instances)
            metric, tokens = f"accuracy_at_{factor}x", longest(lm, task, instances)
            if tokens > lm.max_seq_len:
                scores.append(Score(metric, math.nan, None, len(instances)))
                rows.append({"id": f"{factor}x", "tokens": tokens, "max_seq_len": lm.max_seq_len})
                continue
            replies = ask(lm, task, instances)
            read = factor
            scores.append(accuracy(metric, replies))
            rows += items(task, instances, replies, f"{factor}x/")
        if not read:
            raise UserError(
                f"length_extrapolation: at {params.factors[0]}x, an instance has {rows[0]['tokens']} tokens, and the model reads "
                f"{lm.max_seq_len} at once; ask for a shorter task, or raise model.max_seq_len"
            )
        n = params.instances
        return Evaluation([*scores, Score("read_up_to", float(read), None, n), Score("chance", params.task.chance, None, n)], rows)

    def references(self) -> Iterator[Document]:
        """The instances of every factor."""
        params = self.params
        for factor in params.factors:
            task = params.task.longer(factor)
            yield from as_documents(task, asked(task, params.seed, params.instances), f"{factor}x/")
