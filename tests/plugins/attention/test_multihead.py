"""Grouped heads are multi-head attention with repeated keys and values, and every addition is what transformers computes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import llmkit
from llmkit.core.component import Chosen, Component, Params
from llmkit.core.interfaces.attention import Context
from llmkit.core.interfaces.position import PositionHandle
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.core.slot import plain
from llmkit.model.count import account
from llmkit.plugins.attention.components import GQAParams, MHAParams, MQAParams
from llmkit.plugins.attention.multihead import MultiHeadAttention

D, HEADS, K = 24, 6, 10


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


class Hidden(nn.Module):
    """A transformers attention with its rotary embedding and mask, as its model would call it."""

    def __init__(self, attention: nn.Module, rotary: nn.Module, window: int | None = None) -> None:
        super().__init__()
        self.attention, self.rotary, self.window = attention, rotary, window

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        distance = place[:, None] - place[None]
        seen = (distance >= 0) & (distance < (self.window or len(place)))
        mask = torch.zeros(len(place), len(place)).masked_fill(~seen, float("-inf"))[None, None]
        with torch.no_grad():
            y, _ = self.attention(x, self.rotary(x, place[None]), mask)
        return y


def theirs(family: str, **config: Any) -> Hidden:
    transformers = pytest.importorskip("transformers")
    modeling = importlib.import_module(f"transformers.models.{family.lower()}.modeling_{family.lower()}")
    name = "".join(part.capitalize() for part in family.split("_"))
    given = getattr(transformers, f"{name}Config")(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=K, attn_implementation="eager", **config
    )
    attention = getattr(modeling, f"{name}Attention")(given, 0)
    return Hidden(attention.eval(), getattr(modeling, f"{name}RotaryEmbedding")(given), getattr(attention, "sliding_window", None))


def take(hidden: Hidden, ours: nn.Module) -> None:
    """Our weights into their module, by name; a query and a gate that they hold as one are joined head by head."""
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output", "q_norm": "query_norm", "k_norm": "key_norm"}
    weights = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in hidden.attention.named_parameters():
            module, _, part = name.rpartition(".")
            value = weights.pop(f"{names[module]}.{part}" if module else name)
            if parameter.shape != value.shape:
                value = torch.stack([value.view(4, K, D), weights.pop("gate.weight").view(4, K, D)], dim=1).flatten(0, 2)
            parameter.copy_(value)
    assert not weights


GROUPED = {"n_heads": 4, "n_kv_heads": 2, "head_width": K}
CONFIGURED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen3": ({}, {"qk_norm": "rmsnorm"}),
    "olmo2": ({"rms_norm_eps": 1e-6}, {"qk_norm": "rmsnorm", "qk_norm_over": "width"}),
    "gemma2": (
        {"query_pre_attn_scalar": 5, "attn_logit_softcapping": 3.0, "layer_types": ["sliding_attention"], "sliding_window": 4},
        {"scale": 5**-0.5, "softcap": 3.0, "window": 4},
    ),
    "gpt_oss": (
        {"layer_types": ["full_attention"], "attention_bias": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        {"sinks": True, "bias": True},
    ),
    "qwen3_next": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}},
        {"qk_norm": {"type": "rmsnorm", "zero_centred": True}, "gate": "channel"},
    ),
}


@pytest.mark.parametrize("family", CONFIGURED)
def test_each_addition_is_what_the_family_that_has_it_computes(family: str, layer: Any) -> None:
    config, params = CONFIGURED[family]
    ours, hidden = layer("gqa", {**GROUPED, **params}, d_model=D), theirs(family, **config)
    take(hidden, ours.attention)
    x = torch.randn(2, 9, D, generator=torch.Generator().manual_seed(1))
    expected = hidden(x)
    torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.in_chunks(x, [4, 1, 1, 3]), expected, atol=1e-4, rtol=1e-4)


def test_a_gate_a_head_shuts_the_whole_head(layer: Any) -> None:
    gated = layer("mha", {"n_heads": 4, "gate": "head"}, d_model=D)
    x = torch.randn(1, 5, D)
    with torch.no_grad():
        gated.attention.gate.weight[1:] = 0
        gated.attention.gate.weight[0] = -1e4 * x.mean(1)[0].sign()
    shut = torch.sigmoid(x @ gated.attention.gate.weight[0]) == 0
    before = gated(x)[shut]
    with torch.no_grad():
        gated.attention.value.weight[: D // 4] = 7
    assert shut.any() and torch.equal(gated(x)[shut], before)


def test_a_sink_of_minus_infinity_is_no_sink_and_a_large_one_silences_the_head(layer: Any) -> None:
    with_sinks, x = layer("gqa", {**GROUPED, "sinks": True}, d_model=D), torch.randn(1, 6, D)
    without = layer("gqa", GROUPED, d_model=D)
    without.attention.load_state_dict({k: v for k, v in with_sinks.attention.state_dict().items() if k != "sinks"})
    with torch.no_grad():
        with_sinks.attention.sinks.fill_(-1e4)
        torch.testing.assert_close(with_sinks(x), without(x))
        with_sinks.attention.sinks.fill_(1e4)
        assert with_sinks(x).abs().max() < 1e-6


def test_what_is_normed_across_the_width_needs_a_norm() -> None:
    with pytest.raises(ValidationError, match="qk_norm_over says what qk_norm normalises, and there is none"):
        MHAParams(n_heads=2, qk_norm_over="width")


def test_a_nested_norm_says_what_is_wrong_at_its_place_with_the_width_of_its_place() -> None:
    class Even(Params):
        def check(self, site: Site) -> Iterable[str]:
            if site.width % 4:
                yield f"width {site.width} is not a multiple of 4 at {site.address}"

    even = Chosen(Component(Kind.norm, "acme.even", Even, "nowhere:Even", "for multiples of 4"), Even())
    where = Site(D, D, 1, 0, 16, 10, address="model.block.attention")
    wide = GQAParams(n_heads=4, n_kv_heads=2, head_width=6, qk_norm=even)
    said = "qk_norm: width 6 is not a multiple of 4 at model.block.attention.qk_norm"
    assert list(wide.check(where)) == [said]
    assert not list(wide.model_copy(update={"qk_norm_over": "width"}).check(where))


def test_a_nested_norm_is_a_row_of_the_account_and_written_out_whole() -> None:
    spec = llmkit.load_spec(
        {
            "tokenizer": "bytes",
            "model": {
                "d_model": D,
                "n_layers": 3,
                "max_seq_len": 16,
                "block": {"attention": {"type": "gqa", **GROUPED, "qk_norm": "rmsnorm", "qk_norm_over": "width"}, "ffn": "swiglu"},
            },
            "train": {"steps": 1},
        }
    )
    rows = {row.address: row for row in account(spec).components}
    assert rows["model.block.attention.qk_norm"].parameters == 3 * (4 + 2) * K
    written = plain(spec.model.block_at(0).attention)
    assert written["qk_norm"]["type"] == "rmsnorm" and written["qk_norm"]["eps"] == 1e-6
