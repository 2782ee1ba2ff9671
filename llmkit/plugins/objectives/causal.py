"""Causal language modelling: predict the next token."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from llmkit.core.interfaces.objective import IGNORED, Batch, LanguageModule, Loss, Objective, auxiliary
from llmkit.core.site import Site
from llmkit.plugins.objectives.components import CausalParams


class Causal(Objective):
    """The sum over counted tokens of `-w_t ln p(target_t | ids_<=t)`, in nats, plus the auxiliary losses of the blocks.

    The softmax is in fp32 whatever the logits are in. Metrics: `loss`, the cross-entropy alone, and each auxiliary loss by its address.
    """

    def __init__(self, params: CausalParams, site: Site) -> None:
        super().__init__()

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        h, aux = model.features(batch)
        # The cast happens inside log_softmax: of fp32, only the log-probabilities outlive this line, and not a copy of the logits too.
        log_p = F.log_softmax(model.head(h), dim=-1, dtype=torch.float32)
        nats = F.nll_loss(log_p.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none")
        if batch.weights is not None:
            nats = nats * batch.weights.flatten()
        loss = nats.sum()
        metrics = {"loss": loss, **auxiliary(aux, batch)}
        total = torch.stack(list(metrics.values())).sum()
        return Loss(total, {name: value.detach() for name, value in metrics.items()}, aux.stats)
