"""Differential attention is the paper's formula, token by token, and transformers' DiffLlama's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import llmkit
from llmkit.core.interfaces.attention import KVCache
from llmkit.core.site import Site
from llmkit.plugins.attention.components import DifferentialParams

D, HEADS, K = 24, 4, 6
PARAMS = {"n_heads": HEADS, "n_kv_heads": 2, "head_width": K, "norm": {"type": "rmsnorm", "eps": 1e-5}}


def from_the_paper(weights: dict[str, Tensor], x: Tensor, number: int) -> Tensor:
    """Section 2.1, a head and a query at a time, without positions; heads of the two softmaxes lie in two halves."""
    start = 0.8 - 0.6 * math.exp(-0.3 * number)
    learned = [math.exp(float(weights[f"lambda_q{i}"] @ weights[f"lambda_k{i}"])) for i in (1, 2)]
    weight = learned[0] - learned[1] + start
    q, k, v = (x @ weights[f"{name}.weight"].T for name in ("query", "key", "value"))
    q, k, v = q.view(-1, 2, HEADS, K), k.view(-1, 2, 2, K), v.view(-1, 2, 2, K)
    heads = torch.zeros(len(x), HEADS, 2 * K)
    for head in range(HEADS):
        group = head // 2
        values = torch.cat([v[:, 0, group], v[:, 1, group]], dim=1)
        for t in range(len(x)):
            first, second = ((k[: t + 1, i, group] @ q[t, i, head] / math.sqrt(K)).softmax(0) for i in (0, 1))
            y = (first - weight * second) @ values[: t + 1]
            heads[t, head] = (1 - start) * y / (y.square().mean() + 1e-5).sqrt() * weights["norm.weight"]
    return heads.flatten(1) @ weights["output.weight"].T


@pytest.mark.parametrize("number", [0, 5])
def test_it_is_the_papers_formula(layer: Any, number: int) -> None:
    ours = layer("differential", PARAMS, d_model=D, number=number, position={"type": "alibi"})
    ours.attention.position = ours.attention.position._replace(bias=None)
    x = torch.randn(7, D)
    expected = from_the_paper(ours.attention.state_dict(), x, number)
    torch.testing.assert_close(ours(x[None])[0], expected, atol=1e-5, rtol=1e-4)


def test_it_is_diffllamas_with_a_rotation_and_through_a_cache(layer: Any) -> None:
    pytest.importorskip("transformers")
    from transformers import DiffLlamaConfig
    from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaRotaryEmbedding

    config = DiffLlamaConfig(
        hidden_size=D,
        num_attention_heads=2 * HEADS,
        num_key_value_heads=4,
        head_dim=K,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    ours, theirs = layer("differential", PARAMS, d_model=D, number=3), DiffLlamaAttention(config, 3).eval()
    with torch.no_grad():
        ours.attention.norm.weight.fill_(1)
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
    weights = ours.attention.state_dict()
    theirs.load_state_dict(
        {name: weights[f"{names.get(name.split('.')[0], '')}.weight" if "." in name else name] for name in theirs.state_dict()}
    )
    x, place = torch.randn(2, 9, D), torch.arange(9)
    mask = torch.zeros(9, 9).masked_fill(place[None] > place[:, None], float("-inf"))[None, None]
    with torch.no_grad():
        expected, _ = theirs(x, DiffLlamaRotaryEmbedding(config)(x, place[None]), mask)
    torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.in_chunks(x, [4, 1, 1, 3]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lambda_starts_with_the_depth(layer: Any, dtype: torch.dtype) -> None:
    """Of one token, unnormed and with nothing learned, (1 - lambda_0)^2 is left: once by the difference, once by the factor."""

    def left(number: int) -> Tensor:
        alone = layer("differential", {**PARAMS, "norm": "none"}, d_model=D, number=number)
        with torch.no_grad():
            alone.attention.lambda_q1.copy_(alone.attention.lambda_q2)
            alone.attention.lambda_k1.copy_(alone.attention.lambda_k2)
        alone.attention.to(dtype)
        return alone(torch.ones(1, 1, D, dtype=dtype)).float()

    for number, start in ((1, 0.8 - 0.6 * math.exp(-0.3)), (60, 0.8)):
        expected = left(0) * ((1 - start) / (1 - 0.2)) ** 2
        tolerance = 1e-5 if dtype is torch.float32 else 0.02
        torch.testing.assert_close(left(number), expected, atol=tolerance, rtol=tolerance)


def test_its_cache_is_as_large_as_that_of_twice_as_many_ordinary_heads(layer: Any) -> None:
    like = torch.empty((), dtype=torch.bfloat16, device="meta")
    for window in (None, 16):
        attention = layer("differential", {**PARAMS, "window": window}, d_model=D).attention
        assert attention.new_cache(2, 50, like=like).nbytes == KVCache(2, 4, K, 50, like=like, window=window).nbytes


def test_heads_that_do_not_fit_are_refused_with_both_numbers() -> None:
    site = Site(D, D, 1, 0, 16, 10)
    known = {"catalog": llmkit.catalog()}
    uneven = DifferentialParams.model_validate({"n_heads": 5, "norm": "rmsnorm"}, context=known)
    assert list(uneven.check(site)) == ["d_model 24 is not divisible by 2 n_heads = 10; change one of them, or give head_width"]
    with pytest.raises(ValidationError, match="n_heads 4 is not a multiple of n_kv_heads 3"):
        DifferentialParams.model_validate({"n_heads": 4, "n_kv_heads": 3, "norm": "rmsnorm"}, context=known)
