"""Operations of weight maps: what one way does, the other undoes, bit for bit; and rules find their places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import llmkit
from llmkit.interop.anatomy import Layer, anatomy
from llmkit.interop.weights import SAME, Joined, JoinedByHead, Operation, Rotary, Rule, Stacked, Then, Transposed, links

HEADS, WIDTH, D_MODEL = 3, 8, 10


def layer(**changes: Any) -> Layer:
    spec = llmkit.load_spec(
        {
            "tokenizer": "bytes",
            "model": {
                "d_model": D_MODEL,
                "n_layers": 2,
                "max_seq_len": 16,
                "block": {"attention": {"type": "mha", "n_heads": HEADS, "head_width": WIDTH}, "ffn": {"type": "swiglu", "d_ff": 6}},
            },
        }
    )
    return replace(anatomy(spec).first, **changes)


OPERATIONS: dict[str, tuple[Operation, list[tuple[int, ...]]]] = {
    "same": (SAME, [(5, 7)]),
    "transposed": (Transposed(), [(5, 7)]),
    "transposed bias": (Transposed(), [(5,)]),
    "joined": (Joined(), [(4, 6), (2, 6), (2, 6)]),
    "joined biases": (Joined(), [(4,), (2,)]),
    "transposed and joined": (Then((Transposed(), Joined())), [(4, 6), (2, 6), (2, 6)]),
    "joined by head": (JoinedByHead(), [(HEADS * WIDTH, 6)] * 3),
    "joined biases by head": (JoinedByHead(), [(HEADS * WIDTH,)] * 3),
    "joined by head, of two widths": (JoinedByHead(), [(HEADS * 4, 6), (HEADS * 5, 6)]),
    "stacked": (Stacked(), [(4, 5, 6)]),
    "rotary": (Rotary(), [(HEADS * WIDTH, D_MODEL)]),
    "rotary bias": (Rotary(), [(HEADS * WIDTH,)]),
}


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_goes_out_comes_in_as_it_was(name: str, interleaved: bool) -> None:
    operation, shapes = OPERATIONS[name]
    ours = [torch.randn(shape) for shape in shapes]
    at = layer(interleaved=interleaved)
    back = operation.inward(operation.outward(ours, at), shapes, at)
    assert all(torch.equal(one, other) for one, other in zip(ours, back, strict=True))


@settings(max_examples=30, deadline=None)
@given(heads=st.integers(1, 5), pairs=st.integers(1, 6), rest=st.integers(0, 5))
def test_rotary_rows_are_put_in_halves_whatever_the_head(heads: int, pairs: int, rest: int) -> None:
    """Row 2i of an interleaved head is row i of a halved one, and row 2i + 1 is row i + R/2; what is not turned stays."""
    width = 2 * pairs + rest
    at = layer(
        interleaved=True, attention={"n_heads": heads, "head_width": width}, position={"type": "rope", "fraction": 2 * pairs / width}
    )
    ours = torch.arange(heads * width * 3).view(heads * width, 3)
    (theirs,) = Rotary().outward([ours], at)
    for head in range(heads):
        old, new = ours[head * width : (head + 1) * width], theirs[head * width : (head + 1) * width]
        assert torch.equal(new[:pairs], old[0 : 2 * pairs : 2])
        assert torch.equal(new[pairs : 2 * pairs], old[1 : 2 * pairs : 2])
        assert torch.equal(new[2 * pairs :], old[2 * pairs :])
    assert torch.equal(Rotary().inward([theirs], [ours.shape], at)[0], ours)


def test_an_interleaved_model_is_the_halved_model_of_its_export() -> None:
    """Against the model itself: the two layouts with one set of weights, moved, give one function."""

    def model(layout: str) -> llmkit.model.decoder.Decoder:  # type: ignore[name-defined]
        document = {
            "tokenizer": "bytes",
            "model": {
                "d_model": D_MODEL,
                "n_layers": 1,
                "max_seq_len": 16,
                "position": {"type": "rope", "layout": layout, "theta": 100.0},
                "block": {"attention": {"type": "mha", "n_heads": HEADS, "head_width": WIDTH}, "ffn": {"type": "swiglu", "d_ff": 6}},
            },
        }
        return llmkit.build(llmkit.load_spec(document), seed=3)

    ours, theirs = model("interleaved"), model("half")
    at = anatomy(ours.spec).first
    assert at.interleaved
    state: dict[str, Tensor] = dict(ours.state_dict())
    for name in ("query", "key"):
        key = f"blocks.0.attention.{name}.weight"
        state[key] = Rotary().outward([10 * state[key]], at)[0]
        ours.get_parameter(key).data *= 10
    theirs.load_state_dict(state)
    ids = torch.arange(12)[None]
    torch.testing.assert_close(ours(ids), theirs(ids))
    ours.blocks[0].attention.query.weight.data.copy_(state["blocks.0.attention.query.weight"])
    assert (ours(ids) - theirs(ids)).abs().max() > 1e-4


RULES = (
    Rule("embedding.weight", "wte.weight"),
    Rule("blocks.{layer}.ffn.{part}", "h.{layer}.mlp.{part}"),
    Rule("blocks.{layer}.experts", "h.{layer}.experts.{expert}.w"),
)


def test_a_rule_stands_wherever_the_model_has_its_parameters() -> None:
    parameters = {"embedding.weight": (9, 4), "blocks.0.ffn.weight": (4, 4), "blocks.0.ffn.bias": (4,), "blocks.1.experts": (3, 4, 4)}
    spec = llmkit.load_spec({"tokenizer": "bytes", "model": {"d_model": 16, "n_layers": 2, "max_seq_len": 16}})
    found = links(RULES, anatomy(spec), parameters)
    assert [(link.ours, link.theirs) for link in found] == [
        (["embedding.weight"], ["wte.weight"]),
        (["blocks.0.ffn.weight"], ["h.0.mlp.weight"]),
        (["blocks.0.ffn.bias"], ["h.0.mlp.bias"]),
        (["blocks.1.experts"], ["h.1.experts.0.w", "h.1.experts.1.w", "h.1.experts.2.w"]),
    ]


def test_a_parameter_that_no_rule_names_is_a_mistake_of_the_map() -> None:
    spec = llmkit.load_spec({"tokenizer": "bytes", "model": {"d_model": 16, "n_layers": 2, "max_seq_len": 16}})
    with pytest.raises(KeyError, match=r"no rule for positions\.main\.scale"):
        links(RULES, anatomy(spec), {"embedding.weight": (9, 4), "positions.main.scale": (1,)})
