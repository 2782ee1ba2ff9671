"""Orthogonalised momentum for matrices, AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.plugins.optimizers.components import MuonParams
from llmkit.plugins.optimizers.groups import grouped

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic in the Newton-Schulz iteration: Keller Jordan's, chosen for the steepest slope at 0 rather than for convergence to 1."""
SMALLEST = 1e-7
"""Below it a norm is not divided by: a momentum of zeros stays zeros."""


class Muon(Optimizer):
    """Keller Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the weight decay and the second scaling of Moonlight
    (Liu et al., arXiv 2502.16982). For every matrix W (rows, cols) in the hidden layers:

        m = momentum m + (1 - momentum) g
        u = momentum m + (1 - momentum) g        (m without nesterov)
        O = newton_schulz(u)                     near U V^T, where u = U S V^T
        W = W - lr weight_decay W - lr s O       s = 0.2 sqrt(max(rows, cols))        scaling: rms
                                                 s = sqrt(max(1, rows / cols))        scaling: spectral

    newton_schulz divides by the Frobenius norm, then repeats X = a X + (b A + c A^2) X with A = X X^T, on the flatter side, in bf16:
    singular values end between about 0.7 and 1.2. `rms` gives an update the root mean square of AdamW's, so that AdamW's lr
    and weight decay can be kept, and one lr serves all; `spectral` bounds how far any input is moved, whatever the width, and
    wants a larger lr (0.02) beside a smaller `adamw_lr`.

    Matrices are the parameters of role `matrix`: tables, an untied head, scales and biases are stepped by AdamW. Of a stack of
    experts (E, rows, cols) each is a matrix of its own. Query, key and value are separate parameters here, as Muon wants them.
    State: one number for each of a matrix, two for each of the others, the count. Cost: ns_steps (4 rows + 2 min) min cols
    multiply-adds a matrix and step, with min = min(rows, cols): under 1% of a step of 0.5 million tokens.
    """

    params: MuonParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        params = self.params
        matrices = [item for item in parameters if item.role == "matrix" and item.parameter.dim() >= 2]
        chosen = {item.name for item in matrices}
        others = [item for item in parameters if item.name not in chosen]
        momentum = {"orthogonalised": True, **params.model_dump(include={"momentum", "nesterov", "ns_steps", "scaling"})}
        adamw = {"orthogonalised": False, "betas": params.adamw_betas, "eps": params.adamw_eps}
        adamw_lr = params.lr if params.adamw_lr is None else params.adamw_lr
        groups = [
            *grouped(matrices, params, lr=params.lr, weight_decay=params.weight_decay, options=momentum),
            *grouped(others, params, lr=adamw_lr, weight_decay=params.weight_decay, options=adamw),
        ]
        return OrthogonalisedMomentum(groups, {})


class OrthogonalisedMomentum(torch.optim.Optimizer):
    """The update of `Muon`; a group's `orthogonalised` says which of the two its parameters get."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            direction = self._orthogonalised if group["orthogonalised"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = direction(parameter, parameter.grad, group)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update, alpha=group["lr"])

    def _orthogonalised(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, momentum = self.state[parameter], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        update: Tensor = newton_schulz(ahead, group["ns_steps"]).to(parameter.dtype)
        return update * scale(parameter.shape, group["scaling"])

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (b1, b2) = self.state[parameter], group["betas"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - b1)
        square = state["square"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        root = (square / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
        update: Tensor = (mean / (1 - b1 ** state["step"])).div_(root)
        return update


def newton_schulz(matrices: Tensor, steps: int) -> Tensor:
    """(..., rows, cols) -> the same shape in bf16: every matrix with its singular values brought near 1, its singular vectors kept."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16().flatten(0, -3) if matrices.dim() > 2 else matrices.bfloat16()[None]
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape)


def scale(shape: Sequence[int], rule: str) -> float:
    """What a matrix's update is multiplied by, so that one learning rate serves all shapes (as nn.Linear keeps them: out, in)."""
    rows, cols = shape[-2:]
    if rule == "rms":
        return 0.2 * math.sqrt(max(rows, cols))
    return math.sqrt(max(1.0, rows / cols))
