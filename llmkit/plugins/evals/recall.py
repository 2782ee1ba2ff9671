"""The probes that are no more than their task: recall and copying."""

from __future__ import annotations

from llmkit.plugins.evals.components import CopyingParams, MqarParams
from llmkit.plugins.evals.probe import Probe


class MqarProbe(Probe):
    """Multi-query associative recall: `accuracy`, `exact`, `loss`, `chance` as in `Probe`, of the task in `llmkit.plugins.tasks.mqar`.

    A convolution, a window that has passed the pairs, or a state too small for them fails it; attention solves it in two layers
    (arXiv 2312.04927).
    """

    params: MqarParams


class CopyingProbe(Probe):
    """Copying, or with `blanks` selective copying: `accuracy`, `exact`, `loss`, `chance` as in `Probe`, of the task in
    `llmkit.plugins.tasks.copying`. The right beginning of the copy is always given: one mistake costs one answer."""

    params: CopyingParams
