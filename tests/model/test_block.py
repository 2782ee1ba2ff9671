"""Each layout is its equation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import llmkit
from llmkit.core.interfaces.attention import Context
from llmkit.model.block import Block
from llmkit.model.build import build


def block(layout: str, **more: Any) -> Block:
    model = {"d_model": 16, "n_layers": 1, "max_seq_len": 8, "position": "none"}
    parts = {"attention": {"type": "mha", "n_heads": 2}, "layout": layout, **more}
    made = build(llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": {**model, "block": parts}, "train": {"steps": 1}}))
    torch.manual_seed(0)
    for parameter in made.parameters():
        parameter.data.normal_(0.5, 0.5)
    only = made.blocks[0]
    assert isinstance(only, Block)
    return only


def equation(layout: str, b: Any, x: Tensor, ctx: Context) -> Tensor:
    if layout == "pre":
        x = x + b.attention(b.attention_norm(x), ctx)
        return x + b.ffn(b.ffn_norm(x))
    if layout == "post":
        x = b.attention_norm(x + b.attention(x, ctx))
        return b.ffn_norm(x + b.ffn(x))
    if layout == "sandwich":
        x = x + b.attention_post_norm(b.attention(b.attention_norm(x), ctx))
        return x + b.ffn_post_norm(b.ffn(b.ffn_norm(x)))
    if layout == "branch_post":
        x = x + b.attention_norm(b.attention(x, ctx))
        return x + b.ffn_norm(b.ffn(x))
    return x + b.attention(b.attention_norm(x), ctx) + b.ffn(b.ffn_norm(x))


@pytest.mark.parametrize("layout", ["pre", "post", "sandwich", "branch_post", "parallel"])
def test_every_layout_is_its_equation(layout: str) -> None:
    made, x = block(layout), torch.randn(2, 5, 16)
    ctx = Context(torch.arange(5).expand(2, 5), {}, None, {}, True)
    found, aux = made(x, ctx)
    torch.testing.assert_close(found, equation(layout, made, x, ctx))
    assert not aux.losses and not aux.stats


def test_parallel_branches_may_share_one_norm() -> None:
    made, x = block("parallel", shared_norm=True), torch.randn(2, 5, 16)
    ctx = Context(torch.arange(5).expand(2, 5), {}, None, {}, True)
    h = made.attention_norm(x)
    torch.testing.assert_close(made(x, ctx)[0], x + made.attention(h, ctx) + made.ffn(h))
    assert not hasattr(made, "ffn_norm")
