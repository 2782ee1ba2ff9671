"""No normalisation: y = x."""

from __future__ import annotations

from torch import Tensor

from llmkit.core.interfaces.norm import Norm
from llmkit.core.site import Site
from llmkit.plugins.norms.components import NoNormParams


class NoNorm(Norm):
    """Nothing, (..., width) -> (..., width): for an ablation of the norms."""

    def __init__(self, params: NoNormParams, site: Site) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> x."""
        return x
