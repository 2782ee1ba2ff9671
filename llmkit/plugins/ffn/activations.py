"""Activations by name, elementwise.

`relu2` is relu(x)^2 (Primer, So et al. 2021, arXiv 2109.08668); `gelu_tanh` is the approximation of GELU in GPT-2 and Gemma
(arXiv 1606.08415).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from llmkit.plugins.ffn.components import Activation


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": _relu_squared,
    "silu": F.silu,
}
