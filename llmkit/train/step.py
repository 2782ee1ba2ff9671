"""The one module that is prepared and compiled: a model and its objective, so that DDP, FSDP and compile see one forward."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from llmkit.core.interfaces.objective import Batch, Loss, Objective
from llmkit.model.decoder import Decoder
from llmkit.model.language_model import token_nats


class TrainStep(nn.Module):
    """`forward(batch) -> Loss`. Saved keys are the model's own; the objective's parameters lie under `objective.`"""

    def __init__(self, model: Decoder, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        # accelerate looks for these on the module that it prepares.
        self._no_split_modules = model._no_split_modules

    def forward(self, batch: Batch) -> Loss:
        """The sum of the loss over the counted tokens of a micro-batch."""
        return cast(Loss, self.objective(self.model, batch))

    def nats(self, batch: Batch) -> Tensor:
        """-ln p of every target that there is, fp32 (N,): an evaluation, whatever the objective trains."""
        h, _ = self.model.features(batch)
        real = batch.targets.flatten() >= 0
        found, _ = token_nats(self.model, h.flatten(0, 1)[real], batch.targets.flatten()[real])
        return found

    def tie_weights(self) -> None:
        """Tie the model's weights again: accelerate calls it after loading."""
        self.model.tie_weights()
