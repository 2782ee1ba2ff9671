"""A penalty on distance: score[q, k] += slope / (head + 1) * (k_pos - q_pos)."""

from __future__ import annotations

from torch import Tensor

from llmkit import Position, Site
from llmkit.core.interfaces.position import Tables
from llmkit.testing.scaffold.position import IdeaParams


class Idea(Position):
    """The first head looks nearby, the last one far away."""

    def __init__(self, params: IdeaParams, site: Site) -> None:
        super().__init__()
        self.slope = params.slope

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        """Three tensors of integers that broadcast -> what is added to the scores, of their common shape."""
        return self.slope * (k_pos - q_pos) / (head + 1)
