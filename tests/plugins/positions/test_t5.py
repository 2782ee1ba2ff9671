"""T5's relative bias: its buckets and its scores are those of transformers, and its table is learned."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.core.site import Site
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import named_parameters_with_roles
from llmkit.plugins.positions.components import T5Params
from llmkit.plugins.positions.t5 import T5RelativeBias, buckets
from llmkit.runtime import load_spec

SITE = Site(d_model=32, width=8, n_layers=1, layer=0, max_seq_len=64, vocab_size=10, heads=4)


def position(**params: Any) -> T5RelativeBias:
    made = T5RelativeBias(T5Params(**params), SITE)
    torch.nn.init.normal_(made.weight)
    return made


def scores(made: T5RelativeBias, q_pos: Tensor, k_pos: Tensor) -> Tensor:
    return made.bias(q_pos[:, None], k_pos[None, :], torch.arange(4)[:, None, None], made.tables(q_pos[None]))


def small(**params: Any) -> Decoder:
    block = {"attention": {"type": "mha", "n_heads": 4}, "ffn": {"type": "swiglu", "d_ff": 48}, "norm": "rmsnorm"}
    model = {"d_model": 32, "n_layers": 3, "max_seq_len": 64, "position": {"type": "t5", **params}, "block": block}
    return build(load_spec({"tokenizer": "bytes", "model": model}))


@pytest.mark.parametrize(("count", "max_distance"), [(32, 128), (32, 64), (6, 20), (2, 2), (7, 100), (320, 800)])
def test_buckets_are_those_of_transformers_at_every_distance(count: int, max_distance: int) -> None:
    pytest.importorskip("transformers")
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(2 * max_distance)
    theirs = T5Attention._relative_position_bucket(-distance, bidirectional=False, num_buckets=count, max_distance=max_distance)
    assert torch.equal(buckets(distance, count, max_distance), theirs)


def test_the_published_buckets_are_single_up_to_15_then_grow_to_127() -> None:
    found = buckets(torch.arange(200), 32, 128).tolist()
    assert found[:16] == list(range(16))
    assert found[16:19] == [16, 16, 16]
    assert found == sorted(found)
    assert found[112] == 30
    assert found[113:] == [31] * 87
    assert all(found[at] == min(31, 16 + math.floor(16 * math.log(at / 16) / math.log(8))) for at in (20, 40, 77, 100, 127, 150))


def test_the_bias_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.t5.modeling_t5 import T5Attention

    sizes = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 24}
    config = transformers.T5Config(d_model=32, d_kv=8, num_heads=4, is_decoder=True, **sizes)
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = position(buckets=8, max_distance=24)
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(ours.weight)
        places = torch.arange(40)
        expected = theirs.compute_bias(40, 40)[0]
    assert torch.equal(scores(ours, places, places).tril(), expected.tril())


def test_a_look_up_of_any_key_is_finite_and_reads_no_other_bucket() -> None:
    ours = position(buckets=4, max_distance=8)
    found = scores(ours, torch.tensor([0, 5, 1000]), torch.tensor([-1, 0, 5, 2000]))
    assert torch.equal(found[:, 0, 3], ours.weight[0])
    assert torch.equal(found[:, 2, 1], ours.weight[3])
    assert torch.equal(found[:, 1, 2], ours.weight[0])


def test_all_layers_share_one_table_and_each_adds_to_its_gradient() -> None:
    model = small(buckets=6, max_distance=20)
    assert model.positions["main"].weight.shape == (6, 4)
    assert [name for name, _ in model.named_parameters() if "position" in name] == ["positions.main.weight"]
    model(torch.arange(30)[None]).logsumexp(dim=-1).sum().backward()
    gradient = model.positions["main"].weight.grad
    assert gradient is not None
    assert bool((gradient.abs().sum(dim=1) > 0).all())


def test_the_table_is_trained_as_an_embedding_and_not_as_a_matrix() -> None:
    model = small()
    roles = {one.name: one.role for one in named_parameters_with_roles(model, model.spec.model)}
    assert roles["positions.main.weight"] == "embedding"


def test_buckets_that_leave_no_room_for_ranges_are_refused() -> None:
    with pytest.raises(UserError, match="max_distance 16 must exceed 16, the distances that have a bucket of their own of 32"):
        small(max_distance=16)
