"""Activation checkpointing changes what is kept, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import llmkit
from llmkit.model.decoder import Decoder

MOE = {"type": "moe", "n_experts": 4, "n_active": 2, "d_ff": 16}


def model(recompute: str, ffn: Any = "swiglu") -> Decoder:
    block = {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2}, "ffn": ffn, "norm": "rmsnorm"}
    shape = {"d_model": 32, "n_layers": 2, "max_seq_len": 16, "vocab_size": 258, "block": block}
    made = llmkit.build(llmkit.load_spec({"name": "m", "tokenizer": "bytes", "model": shape, "train": {"steps": 1}}))
    for each in made.blocks:
        each.recompute = recompute
    return made


class Counted(TorchDispatchMode):
    """How often each operation runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def loss_of(made: Decoder) -> Tensor:
    return made(torch.arange(32).view(2, 16)).square().sum()


def gradients(made: Decoder) -> dict[str, Tensor]:
    loss_of(made).backward()
    return {name: parameter.grad for name, parameter in made.named_parameters()}


def calls(made: Decoder) -> Counter[str]:
    """How often each operation runs in the backward pass."""
    loss = loss_of(made)
    with Counted() as counted:
        loss.backward()
    return counted.calls


@pytest.mark.parametrize("ffn", ["swiglu", MOE])
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_gradients_are_the_same_to_the_last_bit(mode: str, ffn: Any) -> None:
    plain, again = gradients(model("none", ffn)), gradients(model(mode, ffn))
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_full_computes_every_product_again_that_a_gradient_needs_and_selective_none() -> None:
    products = {mode: calls(model(mode))["mm"] for mode in ("none", "selective", "full")}
    # A block has 7 projections: query, key, value, output, gate, up, and down, whose result no gradient needs.
    assert products["selective"] == products["none"]
    assert products["full"] == products["none"] + 2 * 6


def test_selective_computes_the_cheap_rest_again() -> None:
    silus = {mode: calls(model(mode))["silu"] for mode in ("none", "selective", "full")}
    assert silus == {"none": 0, "selective": 2, "full": 2}


def test_full_keeps_a_blocks_input_alone() -> None:
    kept = {}
    for mode in ("none", "full"):
        made, sizes = model(mode), []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            made(torch.arange(32).view(2, 16))
        kept[mode] = sum(sizes)
    assert kept["full"] < kept["none"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_a_compiled_block_that_computes_again_gives_the_same_gradients(mode: str) -> None:
    plain, made = gradients(model("none")), model(mode)
    for block in made.blocks:
        block.compile(fullgraph=True)
    again = gradients(made)
    for name in plain:
        torch.testing.assert_close(plain[name], again[name], rtol=1e-4, atol=1e-5)
