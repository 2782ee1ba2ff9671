"""No position encoding: the causal mask alone breaks the symmetry (Kazemnejad et al. 2023, arXiv 2305.19466)."""

from __future__ import annotations

from llmkit.core.interfaces.position import Position
from llmkit.core.site import Site
from llmkit.plugins.positions.components import NoPositionParams


class NoPosition(Position):
    """Nothing is embedded, turned or biased."""

    def __init__(self, params: NoPositionParams, site: Site) -> None:
        super().__init__()
