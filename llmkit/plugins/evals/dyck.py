"""The Dyck probe: does the model keep a stack?"""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.core.interfaces.evaluator import LanguageModel, Score
from llmkit.plugins.evals.components import DyckParams
from llmkit.plugins.evals.probe import Probe, Replies, accuracy
from llmkit.plugins.tasks.task import Instance


class DyckProbe(Probe):
    """Which bracket closes, among the closing ones (see `llmkit.plugins.tasks.dyck`): `accuracy`, `exact`, `loss`, `chance` as in
    `Probe`, and

        accuracy_nested  accuracy where another bracket was opened and closed in between: who looks one bracket back only guesses

    `loss` is that of the choice: nats an answer among the closing brackets. NaN where no bracket is nested.
    """

    params: DyckParams

    def further(self, lm: LanguageModel, instances: Sequence[Instance], replies: Replies) -> list[Score]:
        return [accuracy("accuracy_nested", replies, lambda answer: answer.distance > 1)]
