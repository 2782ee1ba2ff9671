"""Normalisation: width to width."""

from __future__ import annotations

from torch import Tensor, nn


class Norm(nn.Module):
    """A normalisation, built with `(params, site)`; it works on the last dimension, `site.width` channels.

    Initial values come from the model, not from `__init__`: a one-dimensional parameter named `bias` starts at zero and
    any other at one, unless the module has `initial(name, shape, generator) -> Tensor | None`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., width), in the dtype of x."""
        raise NotImplementedError
