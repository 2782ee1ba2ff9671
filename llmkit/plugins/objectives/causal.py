"""Causal language modelling: predict the next token."""

from __future__ import annotations

import torch

from llmkit.core.interfaces.objective import Batch, LanguageModule, Loss, Objective, auxiliary, counted
from llmkit.core.site import Site
from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.objectives.cross_entropy import CrossEntropy


class Causal(Objective):
    """The sum over counted tokens, each with its weight w_t, plus the auxiliary losses of the blocks, in nats:

        w_t ((1 - s) (-ln p(target_t | ids_<=t)) + s mean over the vocabulary of -ln p + z (ln sum exp logits_t)^2)

    s is `label_smoothing` (Szegedy et al., arXiv 1512.00567), z is `z_loss` (PaLM, arXiv 2204.02311, section 5: 1e-4), which keeps
    the logits from drifting away together; both are 0 unless given. The softmax is in fp32 whatever the logits are in.

    Metrics, which add up to the total: `loss`, the plain cross-entropy whatever else is minimised, so that runs compare;
    `label_smoothing` and `z_loss`, what each adds to it, where they are on; each auxiliary loss by its address.
    """

    context_parallel = True

    def __init__(self, params: CausalParams, site: Site) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(params, site.vocab_size)

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        h, aux = model.features(batch)
        total, terms = self.cross_entropy(model.head, h, batch.targets, counted(batch))
        further = auxiliary(aux, batch)
        metrics = {**terms, **{name: value.detach() for name, value in further.items()}}
        return Loss(torch.stack([total, *further.values()]).sum(), metrics, aux.stats)
