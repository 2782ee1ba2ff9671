"""muP: first values, learning rates and logits such that what was tuned on a narrow model holds on a wide one (arXiv 2203.03466)."""

from __future__ import annotations

import math

from llmkit.core.interfaces.init import Init, Weight
from llmkit.plugins.inits.components import MuPParams


class MuP(Init):
    """Maximal update parametrisation for Adam-like optimizers (Yang et al. 2022, table 8). With m = d_model / base_width:

                     deviation         learning rate     output
        matrix       std / sqrt(m)     lr / m
        embedding    std               lr
        head         std               lr                logits / m
        vector                         lr

    Every inner width has to grow with d_model (heads, d_ff) and the width of a head to stay: attention then needs no other scale
    than 1 / sqrt(head width), because that does not change. It needs an optimizer whose updates are elementwise (adamw, lion):
    one that looks at whole matrices has counted their size already. An optimizer that decays weights by lr * weight_decay
    decays matrices by 1 / m less as well. `llmkit build SPEC --coord-check` shows whether activations keep their size.
    """

    params: MuPParams

    def std(self, weight: Weight) -> float:
        if weight.role != "matrix":
            return self.params.std
        return self.params.std / math.sqrt(weight.d_model / self.params.base_width)

    def learning_rate(self, weight: Weight) -> float:
        return self.params.base_width / weight.d_model if weight.role == "matrix" else 1.0

    def logit_scale(self, d_model: int) -> float:
        return self.params.base_width / d_model
