"""How components are cut, without any rank."""

import pytest
import torch
from torch import nn

from llmkit.core.errors import UserError
from llmkit.model.build import build
from llmkit.runtime import load_spec
from llmkit.train.parallel.tensor import Ranks, cut


def cut_model(*overrides: str, ranks: int = 2) -> tuple[nn.Module, dict[str, int], set[str]]:
    model = build(load_spec("recipe:tiny", overrides), device="meta")
    cuts = cut(model, Ranks(None, 1, ranks))
    return model, cuts.dimension, cuts.partial


def test_queries_are_cut_by_head_and_the_output_by_row():
    model, dimension, _ = cut_model("model.block.attention={type: gqa, n_heads: 8, n_kv_heads: 2}")
    attention = model.blocks[0].attention
    d_model = model.spec.model.d_model
    assert attention.query.weight.shape == (d_model // 2, d_model)
    assert attention.key.weight.shape == (d_model // 8, d_model)
    assert attention.output.weight.shape == (d_model, d_model // 2)
    assert (attention.heads, attention.kv_heads) == (4, 1)
    assert dimension["blocks.0.attention.query.weight"] == 0
    assert dimension["blocks.0.attention.output.weight"] == 1


def test_experts_are_cut_within_each_expert():
    model, dimension, _ = cut_model("model.block.ffn={type: moe, n_experts: 4, n_active: 2, d_ff: 64}")
    experts = model.blocks[0].ffn.experts
    assert experts.gate.shape[1:] == (32, model.spec.model.d_model)
    assert experts.down.shape[1:] == (model.spec.model.d_model, 32)
    assert (dimension["blocks.0.ffn.experts.up"], dimension["blocks.0.ffn.experts.down"]) == (1, 2)


def test_a_norm_over_all_heads_leaves_the_attention_whole():
    _, dimension, _ = cut_model("model.block.attention={type: mha, n_heads: 4, qk_norm: rmsnorm, qk_norm_over: width}")
    assert not any(".attention." in name for name in dimension)


def test_the_norm_of_each_head_has_partial_gradients():
    _, _, partial = cut_model("model.block.attention={type: mha, n_heads: 4, qk_norm: rmsnorm}")
    assert "blocks.0.attention.query_norm.weight" in partial


@pytest.mark.parametrize(
    ("attention", "said"),
    [("{type: mha, n_heads: 4}", "heads is 4, which parallel.tp 8"), ("{type: mqa, n_heads: 8}", "kv_heads is 1, which parallel.tp 8")],
)
def test_heads_that_cannot_be_shared_are_refused_by_number(attention, said):
    with pytest.raises(UserError, match=said):
        cut_model(f"model.block.attention={attention}", ranks=8)


def test_a_component_that_is_cut_on_one_rank_computes_what_it_did():
    spec = load_spec(
        "recipe:tiny", ["model.block.attention={type: mha, n_heads: 4, bias: true}", "model.block.ffn={type: mlp, bias: true}"]
    )
    model, ids = build(spec), torch.arange(8)[None]
    expected = model(ids)
    weights = model.state_dict()
    cut(model, Ranks(None, 0, 1))
    model.load_state_dict(weights)
    torch.testing.assert_close(model(ids), expected)
