"""The coordinate check: activations under the usual parametrisation grow with the width, under muP they stay."""

from __future__ import annotations

from typing import Any

import pytest

import llmkit
from llmkit.core.spec import Spec
from llmkit.model.count import account
from llmkit.train.coordinates import Coordinate, coordinates, slopes, widened

BLOCK = {"attention": {"type": "gqa", "n_heads": 2, "n_kv_heads": 1}, "ffn": {"type": "swiglu", "d_ff": 80}}


def spec(init: Any, **model: Any) -> Spec:
    document = {"d_model": 32, "n_layers": 2, "max_seq_len": 16, "init": init, "block": BLOCK, **model}
    return llmkit.load_spec({"tokenizer": "bytes", "model": document, "train": {"steps": 1, "optimizer": {"type": "adamw", "lr": 4e-3}}})


def test_a_widened_model_has_more_heads_of_the_same_width_and_a_wider_ffn() -> None:
    wide = widened(spec("normal"), 4).model
    assert wide.d_model == 128 and wide.block is not None
    assert wide.block.attention.params.model_dump() | {"n_heads": 8, "n_kv_heads": 4} == wide.block.attention.params.model_dump()
    assert wide.block.ffn.params.d_ff == 320
    named = spec("normal", blocks={"one": {}, "two": {"ffn": "mlp"}}, pattern=["one", "two"])
    # d_ff that follows from the width is four times as wide by itself.
    rows = {row.address: row.parameters for row in account(widened(named, 2)).components}
    assert rows["model.blocks.two.ffn"] == 4 * {row.address: row.parameters for row in account(named).components}["model.blocks.two.ffn"]


@pytest.mark.slow
def test_activations_grow_with_the_width_and_under_mup_they_do_not() -> None:
    plain = slopes(coordinates(spec("normal"), (1, 2, 4), steps=3, seeds=1))
    mup = slopes(coordinates(spec({"type": "mup", "base_width": 32}), (1, 2, 4), steps=3, seeds=1))
    for module in ("blocks.0.attention", "blocks.1.attention", "blocks.0", "blocks.1"):
        assert plain[module] is not None and plain[module] > 0.5, module
        assert mup[module] is not None and abs(mup[module]) < 0.2, module


def test_a_slope_is_the_power_of_the_width() -> None:
    found = [Coordinate(width, step, "head", 3 * width**0.5) for width in (32, 64, 128) for step in (0, 1)]
    assert slopes(found) == {"head": pytest.approx(0.5)}
    assert slopes([*found, Coordinate(256, 1, "head", float("nan"))]) == {"head": None}
