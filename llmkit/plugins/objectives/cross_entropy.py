"""What every objective that predicts tokens sums up: the cross-entropy, and what may be added to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmkit.core.interfaces.objective import IGNORED
from llmkit.plugins.objectives.components import CausalParams


def cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor, params: CausalParams) -> dict[str, Tensor]:
    """Sums over the counted tokens, fp32 scalars; their sum is to be minimised.

    logits (B, T, V) in any dtype, targets (B, T) with -100 where ignored, counts (B, T): each target's weight, 0 where it is ignored

    loss             `-ln p(target)`, in nats
    label_smoothing  what smoothing adds to it: `s (mean over the vocabulary of -ln p - -ln p(target))`, where s > 0
    z_loss           `z (ln sum exp logits)^2`, where z > 0

    Of all that is (B, T, V), only the log-probabilities live until the backward pass, whatever is added.
    """
    # The cast happens inside log_softmax: of fp32, only the log-probabilities outlive this line, and not a copy of the logits too.
    log_p = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    nats = F.nll_loss(log_p.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none").view_as(targets)
    terms = {"loss": (nats * counts).sum()}
    if params.label_smoothing:
        terms["label_smoothing"] = params.label_smoothing * ((-log_p.mean(dim=-1) - nats) * counts).sum()
    if params.z_loss:
        # ln sum exp is any token's logit less its log-probability: no second pass over the vocabulary, forward or backward.
        known = targets.clamp(min=0)[..., None]
        log_z = (logits.gather(-1, known).float() - log_p.gather(-1, known))[..., 0]
        terms["z_loss"] = params.z_loss * (log_z.square() * counts).sum()
    return terms
