"""The cross-entropy of some rows of logits, and what may be added to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.objective import IGNORED
from llmkit.plugins.objectives.components import CausalParams

BLOCK = 1 << 20
"""Numbers of a tensor as large as the vocabulary that are worked on at once where nothing fuses the work: about what a processor's
cache holds."""

Terms = dict[str, Tensor]


class RowsLoss(nn.Module):
    """The terms of some rows and the gradient of their logits: all that is done to a tensor as large as the vocabulary."""

    compiled_alone = True

    def __init__(self, params: CausalParams, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.z, self.s = params.z_loss, params.label_smoothing
        self.names = ["loss", *(["label_smoothing"] if self.s else []), *(["z_loss"] if self.z else [])]

    def forward(self, logits: Tensor, targets: Tensor, counts: Tensor) -> list[Tensor]:
        """logits (N, V), targets (N,), counts (N,) -> each term, fp32 scalars. The gradient of their sum takes the place of the logits:

        counts (p (1 + 2 z ln sum exp logits) - (1 - s) onehot(target) - s / V)
        """
        # A compiler makes one loop of it; without one, what is made on the way is as large as this many rows.
        size = len(logits) if torch.compiler.is_compiling() else max(BLOCK // logits.shape[-1], 1)
        parts = [slice(start, start + size) for start in range(0, len(logits), size)]
        summed = [self._replace(logits[part], targets[part], counts[part]) for part in parts]
        return [torch.stack(values).sum() for values in zip(*summed, strict=True)]

    def _replace(self, logits: Tensor, targets: Tensor, counts: Tensor) -> list[Tensor]:
        terms, log_p, log_z = self.terms(logits, targets, counts)
        factor = counts if log_z is None else counts * (1 + 2 * self.z * log_z)
        slope = log_p.exp_().mul_(factor[:, None])
        if self.s:
            slope -= (self.s / slope.shape[-1]) * counts[:, None]
        # Compared, and not scattered: then a compiler keeps none of this in memory.
        hit = torch.arange(logits.shape[-1], device=logits.device) == targets[:, None]
        logits.copy_(torch.where(hit, slope - (1 - self.s) * counts[:, None], slope))
        return list(terms.values())

    def terms(self, logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Terms, Tensor, Tensor | None]:
        """Each term; the log-probabilities (N, V) in fp32; and, with a z-loss, ln sum exp of each row."""
        log_p, log_z = F.log_softmax(logits, dim=-1, dtype=torch.float32), None
        nats = F.nll_loss(log_p, targets, ignore_index=IGNORED, reduction="none")
        terms = {"loss": (nats * counts).sum()}
        if self.s:
            terms["label_smoothing"] = self.s * ((-log_p.mean(dim=-1) - nats) * counts).sum()
        if self.z:
            # Any token's logit less its log-probability: no second pass over the vocabulary.
            known = targets.clamp(min=0)[:, None]
            log_z = (logits.gather(-1, known).float() - log_p.gather(-1, known))[:, 0]
            terms["z_loss"] = self.z * (log_z.square() * counts).sum()
        return terms, log_p, log_z
