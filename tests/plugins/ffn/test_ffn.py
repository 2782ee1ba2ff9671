"""Feed-forward networks against their equations in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from llmkit.core.site import Site
from llmkit.plugins.ffn.components import Activation, GeGLUParams, GLUParams, MLPParams
from llmkit.plugins.ffn.glu import GLU, GeGLU, ReGLU2, SwiGLU
from llmkit.plugins.ffn.mlp import MLP

SITE = Site(d_model=8, width=8, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


EQUATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "silu": silu,
}


def through(linear: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    y = x @ linear.weight.detach().double().numpy().T
    return y if linear.bias is None else y + linear.bias.detach().double().numpy()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", EQUATIONS)
def test_mlp_is_its_equation(activation: Activation, bias: bool) -> None:
    mlp, x = MLP(MLPParams(activation=activation, bias=bias), SITE), torch.randn(2, 3, 8) * 3
    expected = through(mlp.down, EQUATIONS[activation](through(mlp.up, x.double().numpy())))
    np.testing.assert_allclose(mlp(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (mlp.up.bias is not None) == (mlp.down.bias is not None) == bias


@pytest.mark.parametrize(
    ("network", "params", "gating"),
    [
        (SwiGLU, GLUParams(bias=True), silu),
        (GeGLU, GeGLUParams(bias=True), gelu),
        (GeGLU, GeGLUParams(bias=True, approximate="tanh"), EQUATIONS["gelu_tanh"]),
        (ReGLU2, GLUParams(bias=True), EQUATIONS["relu2"]),
    ],
)
def test_gated_networks_are_their_equations(
    network: Callable[[GLUParams, Site], GLU], params: GLUParams, gating: Callable[[np.ndarray], np.ndarray]
) -> None:
    glu, x = network(params, SITE), torch.randn(2, 3, 8) * 3
    wide = x.double().numpy()
    expected = through(glu.down, gating(through(glu.gate, wide)) * through(glu.up, wide))
    np.testing.assert_allclose(glu(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_hidden_widths_follow_the_models_width() -> None:
    assert MLPParams().hidden(768) == 3072
    assert GLUParams().hidden(768) == 2048
    assert GLUParams().hidden(100) == 320
    assert GLUParams(d_ff=172).hidden(64) == 172
