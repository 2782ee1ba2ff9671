"""Objectives: what is minimised. And the batch, which is what they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.ffn import Aux

IGNORED = -100


class Batch(NamedTuple):
    """A micro-batch, (B, T) each.

    ids        int64
    targets    int64, shifted by the data layer, never by an objective; not counted where -100
    positions  int64 absolute position of every token, -1 for padding; None: 0..T-1
    segments   int64 document number of every token where packing masks documents, else None
    weights    fp32 weight of every target, or None for 1
    item_ids   (B,) int64: which sequences of the data these are, for the ledger
    extra      what an objective needs besides
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor | None = None
    segments: Tensor | None = None
    weights: Tensor | None = None
    item_ids: Tensor | None = None
    extra: Mapping[str, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each of its tensors changed."""

        def changed(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        extra = None if self.extra is None else {name: change(tensor) for name, tensor in self.extra.items()}
        others = changed(self.positions), changed(self.segments), changed(self.weights), changed(self.item_ids)
        return Batch(change(self.ids), change(self.targets), *others, extra)


def counted(batch: Batch) -> Tensor:
    """How much every target counts: (B, T) fp32, its weight, and 0 where it is -100."""
    counts = (batch.targets != IGNORED).float()
    return counts if batch.weights is None else counts * batch.weights


def auxiliary(aux: Aux, batch: Batch) -> dict[str, Tensor]:
    """The auxiliary losses of the blocks as sums: name -> fp32 scalar, each sequence's loss times what it counts."""
    sequences = counted(batch).sum(dim=1)
    return {name: (loss.float() * sequences).sum() for name, loss in aux.losses.items()}


class Loss(NamedTuple):
    """What an objective returns.

    total    scalar, fp32, in nats: a *sum* over the counted tokens, never a mean; the loop divides by the true global count
    metrics  name -> scalar sum over the counted tokens, detached; the loop divides it as well. `loss` is the one that is
             reported as `train_loss`: the cross-entropy alone, comparable between objectives
    stats    name -> tensor, summed over micro-batches and ranks and handed to `after_step`: pass on `aux.stats`
    """

    total: Tensor
    metrics: dict[str, Tensor]
    stats: dict[str, Tensor]


class LanguageModule(Protocol):
    """What an objective may ask of a model."""

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        """Final hidden states (B, T, D) after the last norm, and the auxiliary results of all blocks."""
        ...

    def head(self, h: Tensor) -> Tensor:
        """Hidden states (..., D) to the final logits (..., V)."""
        ...


class Objective(nn.Module):
    """A loss, built with `(params, site)`. It runs inside the prepared module, so that DDP, FSDP and compile see one forward.

    `__init__` and `forward` are to be written, and nothing else. Its own parameters (a value head,
    multi-token heads) are saved under `objective.`, initialised and grouped like all others; the model's are reached only
    through `model.features` and `model.head`. `site.width` is d_model.

    With `train.compile`, blocks are compiled one by one, and of an objective the modules that say `compiled_alone = True`.

    `context_parallel = True` says that its total adds up over the tokens of a sequence too, each with its own hidden state and target:
    a sequence may then be cut over ranks.

    A whole one, with the component that its plugin's hook returns:

        class SmoothedParams(Params):
            smoothing: float = Field(0.1, ge=0, lt=1, description="part of the target spread over the whole vocabulary")

        class Smoothed(Objective):
            def __init__(self, params: SmoothedParams, site: Site) -> None:
                super().__init__()
                self.smoothing = params.smoothing

            def forward(self, model: LanguageModule, batch: Batch) -> Loss:
                h, aux = model.features(batch)                                   # (B, T, D)
                log_p = F.log_softmax(model.head(h).float(), dim=-1)             # (B, T, V)
                weights = counted(batch)                                         # (B, T)
                target = log_p.gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
                smoothed = (1 - self.smoothing) * target + self.smoothing * log_p.mean(dim=-1)
                total = -(smoothed * weights).sum() + sum(auxiliary(aux, batch).values())
                return Loss(total, {"loss": -(target * weights).sum().detach()}, aux.stats)

        Component(Kind.objective, "acme.smoothed", SmoothedParams, "llmkit_acme.objectives:Smoothed", "label smoothing")
    """

    def prepare(self, batch: Batch, services: Any) -> Batch:
        """Before the step, outside the graph: generation or frozen models, for what post-training needs. May be left out."""
        return batch

    def count(self, batch: Batch) -> Tensor:
        """Scalar: what `total` will be divided by, known before any forward; summed over ranks and micro-batches once a step.

        May be left out: it is the sum of the weights of all targets that are not -100.
        """
        return torch.count_nonzero(batch.targets != IGNORED) if batch.weights is None else counted(batch).sum()

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        """The sum of the loss over the counted tokens, from `model.features(batch)` and `model.head`.

        batch  a micro-batch of one rank, (B, T); a row may have no counted token, and then adds 0 and a gradient of 0

        Of two batches and of both as one the totals must be equal: no mean, nothing that looks across rows. The softmax is in
        fp32. No side effect, no `.item()`, no shape that depends on values: it is compiled, and run twice under checkpointing.
        """
        raise NotImplementedError
