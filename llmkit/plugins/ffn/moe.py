"""Mixture of experts: a router sends every token to k of E experts (Shazeer et al. 2017, arXiv 1701.06538).

    s = softmax(r(x)) or sigmoid(r(x))                               (E,) scores, r a matrix, in fp32
    C = the k experts with the largest s + b                         b the balancing bias, where there is one
    w_e = scale s_e / sum of s over C    (scale s_e where not normalised)
    y = sum over C of w_e expert_e(x)  +  shared(x)

    expert(x) = down(activation(gate(x)) * up(x))

Softmax over the chosen alone is `score: softmax, normalise: true`: the same numbers (Mixtral, arXiv 2401.04088; Qwen3, 2505.09388).
With groups (DeepSeek-V3, arXiv 2412.19437), C is chosen within the groups whose two largest s + b sum to most.
No token is dropped, whatever the load; what a token gets does not depend on other tokens.

Balance. Its loss is Switch's (Fedus et al. 2021, arXiv 2101.03961), divided by k so that it is 1 where experts are used evenly, taken
over one sequence of T tokens, as in DeepSeek-V3:

    L = balance_loss E sum_e f_e P_e        f_e = tokens that chose e / (k T),  P_e = mean over tokens of s_e / sum of s

The router's z-loss is ST-MoE's (Zoph et al. 2022, arXiv 2202.08906): z_loss times the mean over tokens of logsumexp(r(x))^2.
Loss-free balancing (Wang et al. 2024, arXiv 2408.15664): after every step, b_e += bias_rate sign(mean load - load_e); b gets no gradient.

Shapes: B batch, T tokens, D model width, E experts, k of them active, F hidden width of an expert, S of the shared expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.ffn import Aux, FeedForward
from llmkit.core.site import Site
from llmkit.plugins.ffn.activations import ACTIVATIONS
from llmkit.plugins.ffn.components import Activation, MoEParams
from llmkit.plugins.ffn.glu import GLU
from llmkit.plugins.ffn.grouped import grouped_linear


class Routing(NamedTuple):
    """Where a router sends N tokens.

    logits   (N, E) fp32
    scores   (N, E) fp32: softmax or sigmoid of the logits
    experts  (N, k) int64
    weights  (N, k) fp32
    """

    logits: Tensor
    scores: Tensor
    experts: Tensor
    weights: Tensor


class Router(nn.Module):
    """Scores every expert for every token and chooses, x (N, D) -> `Routing`.

    In fp32 whatever x is in: a rounded score chooses otherwise. `balance_bias` (E,) is a saved buffer, which no optimizer sees.
    """

    balance_bias: Tensor

    def __init__(self, params: MoEParams, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(params.n_experts, d_model))
        self.bias_rate = params.bias_rate
        if params.bias_rate is not None:
            self.register_buffer("balance_bias", torch.zeros(params.n_experts))
        self.score, self.normalise, self.weight_scale = params.score, params.normalise, params.weight_scale
        self.active, self.groups, self.active_groups = params.n_active, params.n_groups, params.n_active_groups

    def forward(self, x: Tensor) -> Routing:
        """x (N, D)."""
        with _without_autocast(x.device):
            logits = F.linear(x.float(), self.weight.float())
        scores = logits.softmax(dim=-1) if self.score == "softmax" else logits.sigmoid()
        experts = self._choice(scores.detach())
        weights = scores.gather(-1, experts)
        if self.normalise:
            weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        return Routing(logits, scores, experts, weights * self.weight_scale)

    def rebalance(self, load: Tensor) -> None:
        """Move the bias by its rate: down for experts with more than the mean load (E,), up for those with less."""
        if self.bias_rate is not None:
            self.balance_bias += self.bias_rate * (load.sum() - load.shape[0] * load).sign().to(self.balance_bias.dtype)

    def reset_buffers(self) -> None:
        """No bias at the start."""
        if self.bias_rate is not None:
            self.balance_bias.zero_()

    def _choice(self, scores: Tensor) -> Tensor:
        """The experts (N, k) of scores (N, E): the best of all, or of the best groups."""
        if self.bias_rate is not None:
            scores = scores + self.balance_bias
        if self.active_groups < self.groups:
            grouped = scores.view(scores.shape[0], self.groups, -1)
            best = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(dim=-1)
            chosen = torch.zeros_like(best, dtype=torch.bool).scatter(-1, best.topk(self.active_groups, dim=-1).indices, True)
            scores = grouped.masked_fill(~chosen[..., None], float("-inf")).flatten(1)
        return scores.topk(self.active, dim=-1).indices


class Experts(nn.Module):
    """E gated linear units side by side, their matrices stacked: `gate` and `up` (E, F, D), `down` (E, D, F)."""

    residual = ("down",)
    parallel: Mapping[str, str] = {"gate": "column", "up": "column", "down": "row"}

    def __init__(self, n_experts: int, d_model: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(n_experts, hidden, d_model))
        self.up = nn.Parameter(torch.empty(n_experts, hidden, d_model))
        self.down = nn.Parameter(torch.empty(n_experts, d_model, hidden))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, routing: Routing, load: Tensor) -> Tensor:
        """x (N, D), load (E,) -> (N, D): the weighted sum of each token's experts.

        Rows are sorted by expert, so that each expert is one product.
        """
        active = routing.experts.shape[1]
        order = routing.experts.flatten().argsort(stable=True)
        place = torch.empty_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
        ends = load.cumsum(0).to(torch.int32)
        dtype = _product_dtype(x)
        rows = x.to(dtype).index_select(0, order // active)
        gate, up = (grouped_linear(rows, weight.to(dtype), ends) for weight in (self.gate, self.up))
        y: Tensor = grouped_linear(self.activation(gate) * up, self.down.to(dtype), ends)
        y = y.index_select(0, place).view(-1, active, x.shape[1])
        return (routing.weights.to(dtype)[:, None] @ y).squeeze(1)


class MoE(FeedForward):
    """y = sum over the k experts of each token of w_e down_e(activation(gate_e(x)) * up_e(x)) + shared(x), (B, T, D) -> (B, T, D).

    A token takes D E + 3 k D F + 3 D S multiply-adds, of E D + 3 E D F + 3 D S weights.
    Aux losses `balance` and `z`, (B,); stats `load` (E,) int64: how many tokens went to each expert.
    """

    def __init__(self, params: MoEParams, site: Site) -> None:
        super().__init__()
        hidden = params.hidden(site.d_model)
        self.router = Router(params, site.d_model)
        self.experts = Experts(params.n_experts, site.d_model, hidden, params.activation)
        if params.shared_d_ff is not None:
            self.shared = GLU(site.d_model, params.shared_d_ff, ACTIVATIONS[params.activation])
            if params.shared_gate:
                self.shared_gate = nn.Linear(site.d_model, 1, bias=False)
        self.params = params
        weights = params.n_experts + 3 * params.n_active * hidden + 3 * (params.shared_d_ff or 0) + params.shared_gate
        self.multiply_adds = weights * site.d_model

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        """x (B, T, D) -> (B, T, D), and what the router has to say."""
        tokens = x.flatten(0, 1)
        routing = self.router(tokens)
        chosen = _counts(routing.experts.view(x.shape[0], -1), self.params.n_experts)
        load = chosen.sum(dim=0)
        y = self.experts(tokens, routing, load).view_as(x)
        if self.params.shared_d_ff is not None:
            y = y + self._shared(x)
        return y, Aux(self._losses(routing, chosen), {"load": load})

    def after_step(self, stats: dict[str, Tensor]) -> None:
        """Once an optimizer step, with the load of all its tokens: loss-free balancing, where the spec asks for it."""
        self.router.rebalance(stats["load"])

    def flops(self, length: int) -> int:
        """Of a forward pass over a sequence: the experts that a token uses, not those that there are."""
        return 2 * length * self.multiply_adds

    def _shared(self, x: Tensor) -> Tensor:
        y: Tensor = self.shared(x)
        if not self.params.shared_gate:
            return y
        gate: Tensor = self.shared_gate(x)
        return y * gate.sigmoid()

    def _losses(self, routing: Routing, chosen: Tensor) -> dict[str, Tensor]:
        """(B,) each, from chosen (B, E): how many tokens of each sequence went to each expert."""
        losses: dict[str, Tensor] = {}
        rows = chosen.shape[0]
        if self.params.balance_loss:
            used = chosen / chosen.sum(dim=-1, keepdim=True)
            shares = routing.scores / routing.scores.sum(dim=-1, keepdim=True)
            probability = shares.view(rows, -1, self.params.n_experts).mean(dim=1)
            losses["balance"] = self.params.balance_loss * self.params.n_experts * (used * probability).sum(dim=-1)
        if self.params.z_loss:
            losses["z"] = self.params.z_loss * routing.logits.logsumexp(dim=-1).square().view(rows, -1).mean(dim=1)
        return losses


def _counts(experts: Tensor, n_experts: int) -> Tensor:
    """How often each expert stands in each row of (B, N): (B, E) int64."""
    none = torch.zeros(experts.shape[0], n_experts, dtype=torch.int64, device=experts.device)
    return none.scatter_add(1, experts, torch.ones_like(experts))


def _product_dtype(x: Tensor) -> torch.dtype:
    """What products are computed in: torch's own operators ask autocast by themselves, ours does not."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if not x.is_meta and torch.is_autocast_enabled(device) else x.dtype


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Where products stay in the dtype of their operands. The meta device knows no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
