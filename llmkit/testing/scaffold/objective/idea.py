"""Label smoothing: loss = -((1 - s) log p(target) + s mean(log p)), a part s of the target spread over the vocabulary."""

from __future__ import annotations

from torch import Tensor, nn

from llmkit import Batch, Loss, Objective, Site
from llmkit.core.interfaces.objective import LanguageModule, auxiliary, counted
from llmkit.testing.scaffold.objective import IdeaParams


class Idea(Objective):
    """A sum over the counted tokens, in nats: who calls it divides by how many there are."""

    def __init__(self, params: IdeaParams, site: Site) -> None:
        super().__init__()
        self.smoothing = params.smoothing

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        """batch (B, T) -> the sum of the loss, and the plain cross-entropy as the metric `loss`."""
        h, aux = model.features(batch)
        log_p = nn.functional.log_softmax(model.head(h).float(), dim=-1)
        target = log_p.gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
        weights = counted(batch)
        total: Tensor = -(((1 - self.smoothing) * target + self.smoothing * log_p.mean(dim=-1)) * weights).sum()
        for loss in auxiliary(aux, batch).values():
            total = total + loss
        return Loss(total, {"loss": -(target * weights).sum().detach()}, aux.stats)
