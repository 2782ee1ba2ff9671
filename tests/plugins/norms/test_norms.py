"""Norms against their definitions in numpy, in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmkit.core.site import Site
from llmkit.plugins.norms.components import LayerNormParams, NoNormParams, RMSNormParams
from llmkit.plugins.norms.identity import NoNorm
from llmkit.plugins.norms.layernorm import LayerNorm
from llmkit.plugins.norms.rmsnorm import RMSNorm

SITE = Site(d_model=48, width=12, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)


def rows() -> torch.Tensor:
    return torch.randn(3, 5, 12) * 4 + 2


def test_rmsnorm_divides_by_the_root_mean_square_and_scales() -> None:
    norm, x = RMSNorm(RMSNormParams(eps=0.1), SITE), rows()
    torch.nn.init.normal_(norm.weight)
    wide = x.double().numpy()
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 0.1) * norm.weight.detach().double().numpy()
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=2e-5, atol=2e-6)


def test_layernorm_takes_the_mean_away_scales_and_shifts() -> None:
    norm, x = LayerNorm(LayerNormParams(eps=0.1), SITE), rows()
    assert norm.bias is not None
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    wide = x.double().numpy()
    centred = wide - wide.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.1)
    expected = scaled * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=2e-5, atol=2e-6)


def test_layernorm_without_bias_has_a_scale_alone() -> None:
    assert [name for name, _ in LayerNorm(LayerNormParams(bias=False), SITE).named_parameters()] == ["weight"]


@pytest.mark.parametrize("norm", [RMSNorm(RMSNormParams(), SITE), LayerNorm(LayerNormParams(), SITE)], ids=["rmsnorm", "layernorm"])
def test_norms_stay_finite_where_squares_overflow_fp16_and_rows_are_zero(norm: torch.nn.Module) -> None:
    large, zero = torch.full((1, 12), 3e4, dtype=torch.float16), torch.zeros(1, 12, dtype=torch.float16)
    large[0, 0] = -3e4
    for x in (large, zero):
        y = norm(x)
        assert y.dtype == torch.float16
        assert y.isfinite().all()


def test_no_norm_returns_what_it_got() -> None:
    x = rows()
    assert NoNorm(NoNormParams(), SITE)(x) is x
