"""T5's relative bias (Raffel et al. 2019, arXiv 1910.10683), for a causal model.

    score[q, k] += weight[bucket(q_pos - k_pos), head]

Of N buckets the first E = N // 2 hold one distance each; the others hold ranges that grow geometrically up to M = max_distance,
and all that lies beyond shares the last:

    bucket(d) = d where d < E, else min(N - 1, E + floor((N - E) ln(d / E) / ln(M / E)))

Shapes: weight (N, H). Cost: N H parameters a model (shared by all layers, as published), and one look-up a score. T5 itself does
not divide scores by the root of the head's width; that is the attention's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.optimizer import Role
from llmkit.core.interfaces.position import Position, Tables
from llmkit.core.site import Site
from llmkit.plugins.positions.components import T5Params


class T5RelativeBias(Position):
    """A learned bias for every head and bucket of distances."""

    def __init__(self, params: T5Params, site: Site) -> None:
        super().__init__()
        self.max_distance = params.max_distance
        self.weight = nn.Parameter(torch.empty(params.buckets, site.heads))
        self.roles: dict[str, Role] = {"weight": "embedding"}

    def tables(self, positions: Tensor) -> Tables:
        """The bias of every distance up to `max_distance`, (M + 1, H): the buckets are found once, and not for every score."""
        distance = torch.arange(self.max_distance + 1, device=positions.device)
        return {"by_distance": self.weight[buckets(distance, len(self.weight), self.max_distance)]}

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        """The weight of the distance's bucket; a key in the future, which is masked, has that of distance 0."""
        return tables["by_distance"][(q_pos - k_pos).clamp(0, self.max_distance), head]


def buckets(distance: Tensor, count: int, max_distance: int) -> Tensor:
    """The bucket of every distance, which is at least 0, int64."""
    exact = count // 2
    # The order of operations is T5's: where a range begins on a whole number, rounding decides on which side it falls.
    steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (count - exact)
    return torch.where(distance < exact, distance, (exact + steps.long()).clamp(max=count - 1))
