"""Gated linear units (Shazeer 2020, arXiv 2002.05202): one mechanism, whose activation gives it its name.

y = down(silu(gate(x)) * up(x))      SwiGLU
y = down(gelu(gate(x)) * up(x))      GeGLU
y = down(relu(gate(x))^2 * up(x))    ReGLU2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from llmkit.core.interfaces.attention import project
from llmkit.core.interfaces.ffn import FeedForward
from llmkit.core.site import Site
from llmkit.plugins.ffn.activations import ACTIVATIONS
from llmkit.plugins.ffn.components import GeGLUParams, GLUParams


class GLU(FeedForward):
    """y = down(activation(gate(x)) * up(x)), each token by itself, (B, T, D) -> (B, T, D): one projection gates another.

    A token takes 3 D d_ff multiply-adds.
    """

    residual = ("down.weight",)
    parallel: Mapping[str, str] = {"gate": "column", "up": "column", "down": "row"}

    def __init__(self, d_model: int, hidden: int, activation: Callable[[Tensor], Tensor], *, bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, hidden, bias=bias)
        self.up = nn.Linear(d_model, hidden, bias=bias)
        self.down = nn.Linear(hidden, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        gate, up = project(x, self.gate, self.up)
        y: Tensor = self.down(self.activation(gate) * up)
        return y


class SwiGLU(GLU):
    """y = down(silu(gate(x)) * up(x)), silu(x) = x sigmoid(x); 3 D d_ff multiply-adds a token."""

    def __init__(self, params: GLUParams, site: Site) -> None:
        super().__init__(site.d_model, params.hidden(site.d_model), ACTIVATIONS["silu"], bias=params.bias)


class GeGLU(GLU):
    """y = down(gelu(gate(x)) * up(x)), gelu(x) = x Phi(x), Phi the normal distribution function; 3 D d_ff multiply-adds a token.

    With `approximate: tanh`, Phi(x) is (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: Gemma's.
    """

    def __init__(self, params: GeGLUParams, site: Site) -> None:
        activation = ACTIVATIONS["gelu" if params.approximate == "none" else "gelu_tanh"]
        super().__init__(site.d_model, params.hidden(site.d_model), activation, bias=params.bias)


class ReGLU2(GLU):
    """y = down(relu(gate(x))^2 * up(x)), the squared ReLU (arXiv 2109.08668, 2402.03804) as a gate; 3 D d_ff multiply-adds a token."""

    def __init__(self, params: GLUParams, site: Site) -> None:
        super().__init__(site.d_model, params.hidden(site.d_model), ACTIVATIONS["relu2"], bias=params.bias)
