"""Normal first values with one deviation, and the two economies on it that divide where a branch ends."""

from __future__ import annotations

import math

from llmkit.core.interfaces.init import Init, Weight
from llmkit.plugins.inits.components import GPT2Params, MegatronParams, NormalParams


class Normal(Init):
    """w ~ N(0, std^2), one std for all matrices, with one of their own for embedding and head where the spec gives it."""

    params: NormalParams

    def std(self, weight: Weight) -> float:
        own = {"embedding": self.params.embedding_std, "head": self.params.head_std}.get(weight.role)
        return own or self.params.std


class GPT2(Normal):
    """As `normal`, and std / sqrt(2 n_layers) where a branch ends, so that the sum of 2 n_layers branches does not grow with depth.

    Radford et al. 2019, section 2.3, in the form of the code that people train with: N is the number of residual branches.
    """

    params: GPT2Params

    def std(self, weight: Weight) -> float:
        std = super().std(weight)
        return std * _branches(weight) if weight.residual else std


class Megatron(Init):
    """std = sqrt(2 / (5 d_model)), divided by sqrt(2 n_layers) where a branch ends.

    The width's rule is Nguyen and Salazar's (arXiv 1910.05895), the depth's Megatron-LM's (Shoeybi et al., arXiv 1909.08053).
    """

    params: MegatronParams

    def std(self, weight: Weight) -> float:
        std = self.params.std or math.sqrt(2 / (5 * weight.d_model))
        return std * _branches(weight) if weight.residual else std


def _branches(weight: Weight) -> float:
    """What the deviation of each of 2 n_layers branches is multiplied by."""
    return 1 / math.sqrt(2 * weight.n_layers)
