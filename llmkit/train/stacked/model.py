"""Several models of one shape as one: every parameter is (S, *shape), S models that never see each other.

A forward pass is `vmap` of the model's own, so that it is right for any component that torch can batch: a product becomes a batched
product, and what is done to each number is done to S times as many in one call. What a small model costs beyond its arithmetic is
then paid once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.generate import evaluating
from llmkit.model.init import initial_values, named_parameters_with_roles
from llmkit.train.checkpoint import saved_tensors
from llmkit.train.engine import make_objective
from llmkit.train.stacked.attention import RowsOfOneBatch
from llmkit.train.step import TrainStep


class Stack:
    """The models and objectives of specs that are equal but for their seeds.

    root        one model and its objective: names, buffers and code; its own weights are not used
    parameters  (S, *shape) each, by saved name, with the role of one model's
    """

    def __init__(self, specs: Sequence[Spec], device: torch.device) -> None:
        self.size, self.device = len(specs), device
        self.root = bare(specs[0], device)
        named = named_parameters_with_roles(self.root, specs[0].model)
        drawn = [initial_values(self.root, spec.model, spec.init_seed) for spec in specs] if device.type != "meta" else []
        self.parameters = [one._replace(parameter=_stacked(one, drawn, self.size, device)) for one in named]
        paths = [f"step.{path}" for path, _ in self.root.named_parameters()]
        self._weights = dict(zip(paths, (one.parameter for one in self.parameters), strict=True))
        self._losses, self._nats = _Losses(self.root), _Nats(self.root)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is to be minimised and what is reported, a sum over the counted tokens each, (S,). batch: (S, B, T), each its own."""
        with RowsOfOneBatch():
            total, reported = vmap(_by_weights(self._losses), in_dims=(0, 0))(self._weights, _present(batch))
        return total, reported

    def nats(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        """-ln p of the targets of these batches, (B, T) and the same for all, summed for each model, (S,) fp64, and how many there are."""
        nats, counted = torch.zeros(self.size, dtype=torch.float64, device=self.device), 0
        forward = vmap(_by_weights(self._nats), in_dims=(0, None))
        with evaluating(self.root), RowsOfOneBatch():
            for batch in batches:
                nats += forward(self._weights, _present(batch.to(self.device)))
                counted += int((batch.targets != IGNORED).sum())
        return nats, counted

    def saved(self, index: int) -> dict[str, Tensor]:
        """What a checkpoint of one of the models has, by saved key: its part of every parameter, and buffers."""
        parts = {one.name: one.parameter.detach()[index] for one in self.parameters}
        return {name: parts.get(name, tensor) for name, tensor in saved_tensors(self.root).items()}


def bare(spec: Spec, device: torch.device) -> TrainStep:
    """A model and its objective without initial values, and with its buffers where the device is a real one."""
    model = build(spec, device="meta")
    with torch.device("meta"):
        root = TrainStep(model, make_objective(spec))
    if device.type != "meta":
        root.to_empty(device=device)
        model.tie_weights()
        for part in (model, root.objective):
            for module in part.modules():
                reset = getattr(module, "reset_buffers", None)
                if module is not model and reset is not None:
                    reset()
    return root


def _by_weights(module: nn.Module) -> Callable[..., Any]:
    """A module as a function of its weights and a batch."""

    def forward(weights: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Any:
        return functional_call(module, dict(weights), (Batch(**batch),))

    return forward


class _Functions:
    """A model as an objective may ask it, with a head that is a function: `vmap` can follow that, and not products in chunks."""

    def __init__(self, model: Decoder) -> None:
        self._model = model

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        return self._model.features(batch)

    def head(self, h: Tensor) -> Tensor:
        logits: Tensor = self._model.head(h)
        return logits


class _Losses(nn.Module):
    """What the objective returns, without what cannot be stacked."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        total, metrics, _ = self.step.objective(_Functions(self.step.model), batch)
        return total, metrics.get("loss", total.detach())


class _Nats(nn.Module):
    """The loss of an evaluation, whatever the objective trains."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, batch: Batch) -> Tensor:
        h, _ = self.step.model.features(batch)
        logits = self.step.model.head(h).flatten(0, 1).float()
        nats = F.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="none")
        return nats.double().sum()


def _stacked(one: NamedParameter, drawn: Sequence[Mapping[str, Callable[[], Tensor]]], size: int, device: torch.device) -> nn.Parameter:
    if device.type == "meta":
        return nn.Parameter(one.parameter.detach().new_empty(size, *one.parameter.shape))
    return nn.Parameter(torch.stack([values[one.name]() for values in drawn]).to(device))


def _present(batch: Batch) -> dict[str, Tensor]:
    """The tensors that a batch has, by name: `vmap` takes no None."""
    return {name: value for name, value in batch._asdict().items() if isinstance(value, Tensor) and name != "item_ids"}
