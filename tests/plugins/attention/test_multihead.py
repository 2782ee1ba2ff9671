"""Grouped heads are multi-head attention with repeated keys and values."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from llmkit.core.interfaces.attention import Context
from llmkit.core.interfaces.position import PositionHandle
from llmkit.core.site import Site
from llmkit.plugins.attention.components import GQAParams, MHAParams, MQAParams
from llmkit.plugins.attention.multihead import MultiHeadAttention

D, HEADS = 24, 6


def site() -> Site:
    return Site(D, D, 1, 0, 16, 10, serve=lambda heads, width: PositionHandle("", 0, lambda x, tables: x, None))


@pytest.mark.parametrize("params", [GQAParams(n_heads=HEADS, n_kv_heads=2), MQAParams(n_heads=HEADS)], ids=["gqa", "mqa"])
def test_shared_keys_are_repeated_keys(params: MHAParams) -> None:
    shared, whole = MultiHeadAttention(params, site()), MultiHeadAttention(MHAParams(n_heads=HEADS), site())
    weights = shared.state_dict()
    for name in ("key.weight", "value.weight"):
        groups = weights[name].view(params.kv_heads, -1, D)
        weights[name] = groups.repeat_interleave(HEADS // params.kv_heads, dim=0).reshape(D, D)
    whole.load_state_dict(weights)
    x, ctx = torch.randn(2, 7, D), Context(torch.arange(7).expand(2, 7), {}, None, {}, True)
    torch.testing.assert_close(shared(x, ctx), whole(x, ctx))


@pytest.mark.parametrize(
    ("bias", "biased"), [(False, set()), (True, {"query", "key", "value", "output"}), ("qkv", {"query", "key", "value"})]
)
def test_biases_stand_where_the_spec_says(bias: bool | str, biased: set[str]) -> None:
    made = MultiHeadAttention(MHAParams(n_heads=HEADS, bias=bias), site())  # type: ignore[arg-type]
    assert {name.removesuffix(".bias") for name, _ in made.named_parameters() if name.endswith(".bias")} == biased


def test_a_head_may_have_a_width_of_its_own() -> None:
    made = MultiHeadAttention(GQAParams(n_heads=HEADS, n_kv_heads=3, head_width=10), site())
    assert made.query.weight.shape == (60, D) and made.key.weight.shape == (30, D) and made.output.weight.shape == (D, 60)


def test_uneven_groups_and_uneven_widths_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValidationError, match="n_heads 6 is not a multiple of n_kv_heads 4"):
        GQAParams(n_heads=6, n_kv_heads=4)
    assert list(MHAParams(n_heads=5).check(site())) == ["d_model 24 is not divisible by n_heads 5; change one of them, or give head_width"]
    assert not list(MHAParams(n_heads=5, head_width=8).check(site()))
