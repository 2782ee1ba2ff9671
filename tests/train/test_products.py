"""Linear layers by oneDNN against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from llmkit.model.head import Head
from llmkit.train import products
from llmkit.train.products import through_onednn

IN, OUT = 256, 1024


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(products, "_is_faster", lambda: True)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layer", [nn.Linear(IN, OUT), nn.Linear(IN, OUT, bias=False), Head(IN, OUT, scale=0.5, softcap=3.0)])
def test_a_layer_and_its_gradients_are_torchs_own(layer: nn.Linear, compiled: bool) -> None:
    other = copy.deepcopy(layer)
    assert through_onednn(other) == 1
    if compiled:
        other.compile(fullgraph=True)
    torch.manual_seed(0)
    x, slope = torch.randn(2, 30, IN), torch.randn(2, 30, OUT)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = other(mine), layer(theirs)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    for one, another in zip(other.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(one.grad, another.grad, rtol=1e-4, atol=1e-4)
    layer.zero_grad()


def test_names_and_types_stay_what_they_are() -> None:
    root = nn.Sequential(nn.Linear(IN, OUT), nn.ReLU())
    before = list(root.state_dict())
    through_onednn(root)
    assert list(root.state_dict()) == before
    assert type(root[0]) is nn.Linear


def test_small_lowered_and_hooked_layers_and_subclasses_are_left_alone() -> None:
    class Adapter(nn.Linear): ...

    hooked = nn.Linear(IN, OUT)
    hooked.register_forward_hook(lambda *_: None)
    assert through_onednn(nn.ModuleList([nn.Linear(8, 8), nn.Linear(IN, OUT).bfloat16(), hooked, Adapter(IN, OUT)])) == 0
