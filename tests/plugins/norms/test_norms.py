"""Norms against their definitions in numpy, in fp64, and against the modules of torch and transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llmkit.core.errors import UserError
from llmkit.core.interfaces.norm import Norm
from llmkit.core.site import Site
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import named_parameters_with_roles
from llmkit.plugins.norms.components import DynamicTanhParams, LayerNormParams, NoNormParams, RMSNormParams
from llmkit.plugins.norms.dyt import DynamicTanh
from llmkit.plugins.norms.identity import NoNorm
from llmkit.plugins.norms.layernorm import LayerNorm
from llmkit.plugins.norms.rmsnorm import RMSNorm
from llmkit.runtime import load_spec

SITE = Site(d_model=48, width=12, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)


def small(norm: dict[str, Any]) -> Decoder:
    """Two layers with this norm everywhere, at its initial values."""
    block = {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": norm}
    model = {"d_model": 32, "n_layers": 2, "max_seq_len": 64, "position": "rope", "block": block}
    return build(load_spec({"tokenizer": "bytes", "model": model})).eval()


def drawn(norm: Norm) -> Norm:
    """With parameters that are not what they start at."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return norm


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


@pytest.mark.parametrize(
    "norm",
    [
        RMSNorm(RMSNormParams(), SITE),
        RMSNorm(RMSNormParams(zero_centred=True), SITE),
        RMSNorm(RMSNormParams(scale=False), SITE),
        LayerNorm(LayerNormParams(), SITE),
        LayerNorm(LayerNormParams(scale=False, bias=False), SITE),
        DynamicTanh(DynamicTanhParams(), SITE),
    ],
    ids=["rmsnorm", "zero-centred rmsnorm", "scale-free rmsnorm", "layernorm", "parameter-free layernorm", "dyt"],
)
def test_norms_stay_finite_where_squares_overflow_fp16_and_rows_are_zero(norm: torch.nn.Module) -> None:
    large, zero = torch.full((1, 12), 3e4, dtype=torch.float16), torch.zeros(1, 12, dtype=torch.float16)
    large[0, 0] = -3e4
    for x in (large, zero):
        y = norm(x)
        assert y.dtype == torch.float16
        assert y.isfinite().all()


def test_rmsnorm_is_torchs() -> None:
    ours, x = drawn(RMSNorm(RMSNormParams(eps=0.1), SITE)), rows()
    theirs = torch.nn.RMSNorm(12, eps=0.1)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))


def test_rmsnorm_without_a_scale_has_no_parameters_and_is_torchs() -> None:
    ours, x = RMSNorm(RMSNormParams(eps=0.1, scale=False), SITE), rows()
    assert not list(ours.parameters())
    assert torch.equal(ours(x), torch.nn.RMSNorm(12, eps=0.1, elementwise_affine=False)(x))


def test_layernorm_without_scale_and_bias_has_no_parameters_and_is_torchs() -> None:
    ours, x = LayerNorm(LayerNormParams(eps=0.1, scale=False, bias=False), SITE), rows()
    assert not list(ours.parameters())
    assert torch.equal(ours(x), torch.nn.LayerNorm(12, eps=0.1, elementwise_affine=False)(x))


def test_layernorm_without_parameters_is_that_of_olmo() -> None:
    pytest.importorskip("transformers")
    from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

    x = rows()
    torch.testing.assert_close(LayerNorm(LayerNormParams(scale=False, bias=False), SITE)(x), OlmoLayerNorm(12)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_zero_centred_rmsnorm_is_gemmas_in_fp32_and_in_bf16(dtype: torch.dtype) -> None:
    """Both scale in fp32 and round once, at the end."""
    pytest.importorskip("transformers")
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    ours, x = drawn(RMSNorm(RMSNormParams(eps=1e-6, zero_centred=True), SITE)).to(dtype), torch.randn(400, 12).to(dtype) * 4
    theirs = GemmaRMSNorm(12, eps=1e-6).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    found, expected = ours(x), theirs(x)
    assert found.dtype is dtype
    torch.testing.assert_close(found, expected, rtol=1e-5 if dtype is torch.float32 else 2**-8, atol=1e-6)
    assert dtype is torch.float32 or float((found == expected).float().mean()) > 0.99


def test_llamas_order_of_casts_gives_the_same_in_fp32_and_differs_by_roundings_in_bf16() -> None:
    pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    ours, x = drawn(RMSNorm(RMSNormParams(eps=1e-6), SITE)), torch.randn(400, 12) * 4
    theirs = LlamaRMSNorm(12, eps=1e-6)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    half = x.bfloat16()
    # Two roundings of half a unit each, where ours has one.
    torch.testing.assert_close(ours.bfloat16()(half), theirs.bfloat16()(half), rtol=2**-7, atol=1e-6)


def test_a_zero_centred_rmsnorm_starts_at_zero_and_as_the_plain_one() -> None:
    plain, centred, ids = small({"type": "rmsnorm"}), small({"type": "rmsnorm", "zero_centred": True}), torch.arange(9)[None]
    weights = [value for name, value in centred.state_dict().items() if "norm" in name]
    assert len(weights) == 5
    assert not any(bool(weight.any()) for weight in weights)
    with torch.no_grad():
        torch.testing.assert_close(centred(ids), plain(ids))


def test_a_centred_scale_that_is_refused_is_a_contradiction() -> None:
    with pytest.raises(UserError, match="zero_centred is about the scale, and scale is false"):
        small({"type": "rmsnorm", "zero_centred": True, "scale": False})


def test_dynamic_tanh_is_its_formula() -> None:
    norm, x = drawn(DynamicTanh(DynamicTanhParams(), SITE)), rows()
    alpha, weight, bias = (value.detach().double().numpy() for value in norm.parameters())
    expected = np.tanh(alpha * x.double().numpy()) * weight + bias
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=2e-5, atol=2e-6)


def test_dynamic_tanh_starts_at_the_slope_of_its_parameters_with_a_scale_of_one_and_no_bias() -> None:
    for given, slope in (({}, 0.5), ({"alpha": 0.8}, 0.8)):
        state = small({"type": "dyt", **given}).state_dict()
        assert float(state["blocks.1.ffn_norm.alpha"]) == pytest.approx(slope)
        assert bool((state["norm.weight"] == 1).all())
        assert not bool(state["norm.bias"].any())


@pytest.mark.parametrize("norm", ["rmsnorm", "dyt"])
def test_what_a_norm_learns_is_a_vector_to_optimizers(norm: str) -> None:
    model = small({"type": norm})
    roles = {one.name: one.role for one in named_parameters_with_roles(model, model.spec.model) if "norm" in one.name}
    assert roles
    assert set(roles.values()) == {"vector"}


def test_no_norm_returns_what_it_got() -> None:
    x = rows()
    assert NoNorm(NoNormParams(), SITE)(x) is x
