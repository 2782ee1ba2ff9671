"""Multi-token prediction: the next token, and those after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.objective import IGNORED, Batch, LanguageModule, Loss, Objective, auxiliary, counted
from llmkit.core.site import Site
from llmkit.plugins.objectives.components import MultiTokenParams
from llmkit.plugins.objectives.cross_entropy import CrossEntropy


class MultiToken(Objective):
    """Next-token prediction, and beside it, from every hidden state, the `n_future` tokens that follow the next one
    (Gloeckle et al., arXiv 2404.19737), in nats:

        L_0 + weight / n_future (L_1 + ... + L_n_future) + the auxiliary losses of the blocks
        L_k = sum over t of -ln p_k(target_(t + k) | ids_<=t),    p_k = softmax(head(h_t + silu(W_k h_t))),    p_0 = softmax(head(h_t))

    h (B, T, D) are the final hidden states after the last norm, and the head is the model's own. Every W_k (D, D) is a parameter
    of the objective (`objective.ahead.<k - 1>`) which starts at zero, is trained with the model and is left out when it generates.
    A target counts in L_k where t + k lies in the sequence and in the document (`segments`) of t, t is no padding, and L_0
    counts it: with its own weight there.

    In the paper every offset, the next token's too, has a transformer layer of its own in place of the trunk's last one, and all
    losses weigh 1 (its n is n_future + 1, its weighting is weight = n_future). The layer here is Medusa's (arXiv 2401.10774): the
    model itself stays what it is under `causal`, and the two compare. DeepSeek-V3 (arXiv 2412.19437) chains its modules: that of
    offset k is a whole block over the states of k - 1 and the embedding of token t + k, so that it sees the tokens in between;
    its weight, of the mean over the offsets as here, is 0.3 and later 0.1.

    Metrics: `loss` is L_0's plain cross-entropy alone, so that runs compare; `ahead_<k>` that of L_k, as every metric over the number
    of tokens that L_0 counts. Label smoothing and z-loss, where they are on, are in every L_k.
    Cost: n_future (D^2 + D V) multiply-adds a token, and as many hidden states (B, T, D) more in memory.
    """

    def __init__(self, params: MultiTokenParams, site: Site) -> None:
        super().__init__()
        self.params = params
        self.cross_entropy = CrossEntropy(params, site.vocab_size)
        self.ahead = nn.ModuleList(Ahead(site.width) for _ in range(params.n_future))

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        h, aux = model.features(batch)
        total, terms = self.cross_entropy(model.head, h, batch.targets, counted(batch))
        further = auxiliary(aux, batch)
        metrics = {**terms, **{name: value.detach() for name, value in further.items()}}
        losses = [total, *further.values()]
        weight = self.params.weight / self.params.n_future
        for offset, layer in enumerate(self.ahead, start=1):
            beyond, terms = self.cross_entropy(model.head, layer(h), *ahead(batch, offset))
            metrics[f"ahead_{offset}"] = terms["loss"]
            losses.append(weight * beyond)
        return Loss(torch.stack(losses).sum(), metrics, aux.stats)


class Ahead(nn.Module):
    """h + silu(W h), (..., D) to (..., D): at first the state as it is, which predicts the next token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """Zeros."""
        return torch.zeros(shape)

    def forward(self, h: Tensor) -> Tensor:
        return h + F.silu(self.projection(h))


def ahead(batch: Batch, offset: int) -> tuple[Tensor, Tensor]:
    """Targets and counts (B, T) of what every token predicts `offset` tokens beyond the next one."""
    targets, counts = _shifted(batch.targets, offset, IGNORED), _shifted(counted(batch), offset, 0)
    reached = torch.ones_like(targets, dtype=torch.bool)
    if batch.segments is not None:
        reached = reached & (_shifted(batch.segments, offset, -1) == batch.segments)
    if batch.positions is not None:
        reached = reached & (batch.positions >= 0)
    return targets.masked_fill(~reached, IGNORED), counts * reached


def _shifted(values: Tensor, offset: int, beyond: int) -> Tensor:
    """(B, T): the value `offset` places further on, and `beyond` after the end."""
    return F.pad(values[:, offset:], (0, min(offset, values.shape[1])), value=beyond)
