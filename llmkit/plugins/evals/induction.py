"""The induction probe: does the model say what it saw before?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmkit.core.interfaces.evaluator import LanguageModel, Score
from llmkit.plugins.evals.components import InductionParams
from llmkit.plugins.evals.perplexity import ratio
from llmkit.plugins.evals.probe import Probe, Replies, mean
from llmkit.plugins.tasks.task import Instance


class InductionProbe(Probe):
    """Random symbols twice over (see `llmkit.plugins.tasks.induction`): `accuracy`, `exact`, `loss`, `chance` as in `Probe`, and

        loss_first  -ln p of a symbol of the first run, its first one left out: nats a symbol
        gain        an instance's loss in the first run less that of its answers, mean over instances: what having seen the run before is
                    worth, in nats a symbol; 0 without induction

    It needs no training on the task: a language model of whatever text has a gain once it has induction heads (arXiv 2209.11895). For
    one with a vocabulary of words, give it a space as the separator.
    """

    params: InductionParams

    def further(self, lm: LanguageModel, instances: Sequence[Instance], replies: Replies) -> list[Score]:
        separator = self.params.separator
        pairs = []
        for instance in instances:
            first = instance.symbols[: len(instance.symbols) // 2]
            pairs.append((instance.before(1, separator), Instance(first[1:], ()).text(separator).removeprefix(separator)))
        before = [-found.nats for found in lm.loglikelihood(pairs)]
        counts = [len(instance.symbols) // 2 - 1 for instance in instances]
        again = [math.fsum(reply.nats for reply in some) / len(some) for some in replies]
        gained = [nats / count - loss for nats, count, loss in zip(before, counts, again, strict=True)]
        return [Score("gain", *mean(gained), len(counts)), Score("loss_first", *ratio(before, counts), len(counts))]
