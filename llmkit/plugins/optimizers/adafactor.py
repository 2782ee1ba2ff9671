"""Adam's second moment in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import AdafactorParams
from llmkit.plugins.optimizers.groups import grouped


class Adafactor(Optimizer):
    """Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5. For every matrix W (rows, cols), at step t, with b2 = 1 - t^decay_rate:

        R = b2 R + (1 - b2) mean of g^2 + eps over cols       (rows,)
        C = b2 C + (1 - b2) mean of g^2 + eps over rows       (cols,)
        u = g / sqrt(R C^T / mean(R))                         a vector keeps its whole second moment
        u = u / max(1, rms(u) / clip_threshold)
        W = W - lr weight_decay W - lr max(min_scale, rms(W)) u

    With relative_step false the last factor is absent: lr is then of the size of AdamW's. The paper's own decay of the rate,
    min(lr, 1 / sqrt(t)), is the schedule's business (torch.optim.Adafactor cannot be kept from it). With `momentum`, u is averaged:
    m = momentum m + (1 - momentum) u. Of a stack of experts (E, rows, cols) each is a matrix of its own.

    State: rows + cols numbers a matrix, one number for each of a vector, one more for each of all with momentum.
    """

    params: AdafactorParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        options = params.model_dump(include={"decay_rate", "eps", "clip_threshold", "relative_step", "min_scale", "momentum"})
        return FactoredMoment(grouped(parameters, params, lr=params.lr, weight_decay=params.weight_decay, options=options), {})


class FactoredMoment(torch.optim.Optimizer):
    """The update of `Adafactor`; every group has `lr`, `weight_decay` and the parameters that it does not share with the others."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._update(parameter.grad, self.state[parameter], group)
                if group["relative_step"]:
                    update = update * rms(parameter).clamp(min=group["min_scale"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update, alpha=group["lr"])

    def _update(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        state["step"] = step = state.get("step", 0) + 1
        update = gradient * self._inverse_root(state, gradient.square() + group["eps"], step ** group["decay_rate"])
        update /= (rms(update) / group["clip_threshold"]).clamp(min=1)
        return _averaged(state, "momentum", update, 1 - group["momentum"]) if group["momentum"] else update

    @staticmethod
    def _inverse_root(state: dict[str, Any], square: Tensor, new: float) -> Tensor:
        """1 / sqrt of the second moment, after `square` has been averaged into it with the weight `new`."""
        if square.dim() < 2:
            return _averaged(state, "square", square, new).rsqrt()
        rows = _averaged(state, "rows", square.mean(dim=-1), new)
        cols = _averaged(state, "cols", square.mean(dim=-2), new)
        return (rows / rows.mean(dim=-1, keepdim=True)).rsqrt()[..., :, None] * cols.rsqrt()[..., None, :]


def rms(matrices: Tensor) -> Tensor:
    """Root mean square of a vector (), or of every matrix (..., 1, 1)."""
    if matrices.dim() < 2:
        return matrices.square().mean().sqrt()
    return matrices.square().mean(dim=(-2, -1), keepdim=True).sqrt()


def _averaged(state: dict[str, Any], name: str, value: Tensor, new: float) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(value)
    mean: Tensor = state[name].lerp_(value, new)
    return mean
