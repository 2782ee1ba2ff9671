"""Layers of 8 bits: the kernel computes exactly what its integers say, for any widths and rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from llmkit.core.interfaces.attention import project
from llmkit.core.interfaces.kernel import lacking
from llmkit.model import int8
from llmkit.model.int8 import GROUP, Int8Linear, quantised, refused, rounded

kernel = pytest.mark.skipif(refused() is not None, reason=f"no kernel: {refused()}")


def exactly(x: Tensor, linear: nn.Linear) -> Tensor:
    """The layer's result from its integers, group by group: products and sums of integers, scales in fp64."""
    integers, scale = quantised(linear.weight.detach())
    y = torch.zeros(*x.shape[:-1], linear.out_features, dtype=torch.float64)
    for start in range(0, x.shape[-1], GROUP):
        part = x[..., start : start + GROUP].float()
        largest = part.abs().amax(dim=-1, keepdim=True)
        numbers = (part * torch.where(largest > 0, 127 / largest, 0)).round().to(torch.int64)
        products = numbers[..., None, :] * integers[:, start : start + GROUP].to(torch.int64)
        y += products.sum(dim=-1) * (largest / 127).double()
    y *= scale.double()
    return y if linear.bias is None else y + linear.bias.detach().double()


@kernel
@pytest.mark.parametrize("width", [32, 24, 200])
@pytest.mark.parametrize("out", [64, 7, 130])
@pytest.mark.parametrize("rows", [(1,), (2,), (3, 1), (4,), (3, 3)])
def test_the_kernel_is_the_sum_of_products_of_integers(width: int, out: int, rows: tuple[int, ...]) -> None:
    torch.manual_seed(width + out)
    linear = nn.Linear(width, out)
    x = torch.randn(*rows, width) * torch.logspace(-3, 3, width)
    y = Int8Linear(linear, None)(x)
    assert y.shape == (*rows, out) and y.dtype is torch.float32
    expected = exactly(x, linear)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@kernel
def test_the_largest_integers_do_not_overflow() -> None:
    linear = nn.Linear(8192, 64, bias=False)
    for sign in (1.0, -1.0):
        nn.init.constant_(linear.weight, sign)
        for x in (torch.ones(1, 8192), -torch.ones(1, 8192)):
            torch.testing.assert_close(Int8Linear(linear, None)(x), linear(x))


@kernel
def test_rows_of_zeros_give_the_bias_and_an_infinite_activation_is_not_hidden() -> None:
    linear = nn.Linear(40, 10)
    layer = Int8Linear(linear, None)
    assert torch.equal(layer(torch.zeros(2, 40)), linear.bias.detach().expand(2, 10))
    x = torch.randn(1, 40)
    x[0, 3] = torch.inf
    assert not bool(layer(x).isfinite().any())


@kernel
def test_in_bf16_it_reads_and_gives_bf16_and_finishes_at_the_end() -> None:
    linear = nn.Linear(48, 20)
    x = torch.randn(3, 48).bfloat16()
    y = Int8Linear(linear, torch.tanh)(x)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y.double(), exactly(x, linear).tanh(), atol=8e-3, rtol=8e-3)


@kernel
def test_layers_that_read_one_x_are_projected_together_as_each_alone() -> None:
    linears = [nn.Linear(40, out, bias=out != 64) for out in (64, 30, 100)]
    layers = [Int8Linear(linear, None) for linear in linears]
    x = torch.randn(2, 3, 40)
    together = project(x, *layers)
    assert all(torch.equal(part, layer(x)) for part, layer in zip(together, layers, strict=True))
    # Beside a layer of another class, each is called.
    mixed = project(x, layers[0], linears[1])
    assert torch.equal(mixed[0], layers[0](x)) and torch.equal(mixed[1], linears[1](x))


@kernel
def test_the_operator_says_its_shapes_as_torch_wants() -> None:
    layer = Int8Linear(nn.Linear(40, 70), None)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.llmkit.int8_linears.default, (torch.randn(2, 3, 40), [layer.weight], [70]), test_utils=tests)
    with pytest.raises(RuntimeError, match="weight 0 is"):
        torch.ops.llmkit.int8_linears(torch.randn(2, 3, 72), [layer.weight], [70])


def test_rounding_keeps_each_rows_largest_weight_and_errs_by_half_a_step() -> None:
    weight = torch.randn(5, 64) * torch.tensor([[1e-4], [1.0], [50.0], [3.0], [0.0]])
    integers, scale = quantised(weight)
    assert integers.dtype is torch.int8
    back = integers * scale[:, None]
    assert bool(((back - weight).abs() <= scale[:, None] * 0.5001).all())
    largest = weight.abs().argmax(dim=1)
    torch.testing.assert_close(back.gather(1, largest[:, None]), weight.gather(1, largest[:, None]))


def test_an_activation_out_of_scale_spoils_its_own_group_only() -> None:
    x = torch.randn(2, 80)
    x[0, 5] = 1e4
    error = (rounded(x) - x).abs()
    assert bool((error[0, GROUP:] < 0.02).all()) and bool((error[1] < 0.02).all())
    assert float(error[0, :GROUP].max()) > 0.1
    assert bool((rounded(torch.zeros(1, 80)) == 0).all())


@pytest.mark.skipif(lacking("avx512_vnni") is not None, reason="the processor could not run it")
def test_a_machine_without_a_compiler_is_told_so(tmp_path: Path) -> None:
    program = "from llmkit.model.int8 import refused; print(refused())"
    surroundings = {"PATH": "/nowhere", "CXX": "no-such-compiler", "TORCH_EXTENSIONS_DIR": str(tmp_path), "HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, check=True).stdout
    assert told.startswith("it cannot be compiled or loaded") and "no-such-compiler" in told


@kernel
def test_a_source_that_does_not_compile_is_told_with_its_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int wrong( {", encoding="utf-8")
    monkeypatch.setattr(int8, "SOURCE", source)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert "its source does not compile" in str(refused.__wrapped__())
    assert not list(tmp_path.rglob("*.so"))
