"""Attention with linear biases (Press, Smith and Lewis 2021, arXiv 2108.12409).

    score[q, k] -= slope[head] * (q_pos - k_pos),  slope[h] = 2^(-8 (h + 1) / H) for H a power of two

For another H: the slopes of the power of two below, then every second one of the power of two above, as published.
"""

from __future__ import annotations

import math

from torch import Tensor

from llmkit.core.interfaces.position import Position, Tables, constant
from llmkit.core.site import Site
from llmkit.plugins.positions.components import AlibiParams


class Alibi(Position):
    """A penalty that grows with distance, at a slope for every head."""

    def __init__(self, params: AlibiParams, site: Site) -> None:
        super().__init__()
        self.heads = site.heads

    def tables(self, positions: Tensor) -> Tables:
        """The slope of every head, (H,) fp32."""
        return {"slopes": constant(slopes(self.heads), positions.device)}

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        """0 for the token itself, falling by the head's slope with every token of distance."""
        return tables["slopes"][head] * (k_pos - q_pos)


def slopes(heads: int) -> list[float]:
    """The published slopes, for any number of heads."""
    below = 2 ** math.floor(math.log2(heads))
    geometric = [2.0 ** (-8 * (index + 1) / below) for index in range(below)]
    between = [2.0 ** (-8 * (index + 1) / (2 * below)) for index in range(0, 2 * below, 2)]
    return geometric + between[: heads - below]
