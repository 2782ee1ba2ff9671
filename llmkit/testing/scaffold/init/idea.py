"""Normal first values: w ~ N(0, std^2), std = gain / sqrt(fan in)."""

from __future__ import annotations

from llmkit import Init
from llmkit.core.interfaces.init import Weight
from llmkit.testing.scaffold.init import IdeaParams


class Idea(Init):
    """What a matrix gives out is as large as what it is given."""

    params: IdeaParams

    def std(self, weight: Weight) -> float:
        """The deviation of this weight; it may depend on its name, its role, its layer and the size of the model."""
        return float(self.params.gain * weight.fan_in**-0.5)
