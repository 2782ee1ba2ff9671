"""Products in 8 bits: which layers, what stays as it was, and what is refused. The rounding is torchao's emulation, on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import llmkit
from llmkit.core.errors import UserError
from llmkit.train import fp8, precision, world
from llmkit.train.engine import Engine
from llmkit.train.loop import train
from llmkit.train.parallel.checks import check_ranks
from llmkit.train.speed import Speed

emulated = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
CPU = torch.device("cpu")


@pytest.fixture
def wide(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny spec with layers that are large enough; keys and values of one head are not."""
    tiny["model"]["d_model"] = 256
    tiny["model"]["n_layers"] = 1
    tiny["model"]["block"]["attention"] = {"type": "gqa", "n_heads": 4, "n_kv_heads": 1}
    tiny["train"].update(precision="fp8", optimizer={"type": "adamw", "lr": 1e-3})
    return tiny


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that has such products."""
    monkeypatch.setattr(fp8, "check", lambda device: None)


def engine(document: dict[str, Any], *overrides: str) -> Engine:
    return Engine(llmkit.load_spec(document, overrides=overrides), world.begin([], "."))


@emulated
def test_the_large_layers_of_the_blocks_are_converted_and_names_stay(wide: dict[str, Any]) -> None:
    lowered, plain = engine(wide), engine(wide, "train.precision=bf16")
    converted = {name for name, module in lowered.model.named_modules() if type(module).__name__ == "Float8Linear"}
    assert converted == {
        f"blocks.0.{name}" for name in ("attention.query", "attention.output", "ffn.gate", "ffn.up", "ffn.down")
    }  # not key and value, 64 wide; not the head, which is the embedding here
    assert list(lowered.saved()) == list(plain.saved())
    assert all(torch.equal(tensor, plain.saved()[name]) for name, tensor in lowered.saved().items())
    assert {one.parameter.dtype for one in lowered.parameters} == {torch.float32}
    assert {one.dtype for one in lowered.root.parameters()} == {torch.bfloat16}


@emulated
def test_weights_that_an_attention_reads_itself_are_left_alone(wide: dict[str, Any]) -> None:
    wide["model"]["block"]["attention"] = {
        "type": "mla", "n_heads": 4, "kv_lora_rank": 256, "nope_head_width": 64, "rope_head_width": 64, "value_head_width": 64,
        "norm": "rmsnorm",
    }  # fmt: skip
    attention = engine(wide).model.blocks[0].attention
    assert type(attention.latent_down).__name__ == "Float8Linear"  # type: ignore[union-attr]
    assert type(attention.key_up) is type(attention.value_up) is nn.Linear  # type: ignore[union-attr]


@emulated
def test_products_are_rounded_to_8_bits_forward_and_backward(wide: dict[str, Any]) -> None:
    """Against the definition written out: each operand divided by its scale, rounded to its format, and multiplied back."""
    layer = engine(wide).model.blocks[0].ffn.up  # type: ignore[union-attr]
    assert isinstance(layer, nn.Linear)

    def rounded(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        scale = torch.finfo(dtype).max / x.float().abs().max()
        return (x.float() * scale).to(dtype).float() / scale

    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    y = layer(x)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    (of_x,) = torch.autograd.grad(y, x, slope)
    weight = layer.weight.detach()
    in_8_bits = rounded(x.detach(), torch.float8_e4m3fn) @ rounded(weight, torch.float8_e4m3fn).T
    torch.testing.assert_close(y.float(), in_8_bits, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(of_x.float(), rounded(slope, torch.float8_e5m2) @ rounded(weight, torch.float8_e4m3fn), atol=2e-2, rtol=2e-2)
    # What is compared to is not the product in bf16.
    assert (y.float() - (x.detach().float() @ weight.float().T)).abs().max() > 4 * (y.float() - in_8_bits).abs().max()


@emulated
@pytest.mark.usefixtures("anywhere")
@pytest.mark.slow
def test_thirty_steps_in_8_bits_learn_what_bf16_learns(wide: dict[str, Any], tmp_path: Path) -> None:
    losses = {}
    for mode in ("bf16", "fp8"):
        spec = llmkit.load_spec(wide, overrides=[f"train.precision={mode}", "train.steps=30"])
        losses[mode] = train(spec, out=tmp_path / mode)["val_loss"]
    assert losses["fp8"] != losses["bf16"]
    assert losses["fp8"] == pytest.approx(losses["bf16"], rel=2e-2)


@emulated
@pytest.mark.usefixtures("anywhere")
def test_a_run_in_8_bits_goes_on_as_if_it_had_not_stopped(wide: dict[str, Any], tmp_path: Path) -> None:
    wide["train"]["micro_batch_size"] = 2
    found = {}
    for name, stops in (("straight", [6]), ("stopped", [3, 6])):
        for steps in stops:
            train(llmkit.load_spec(wide, overrides=[f"train.steps={steps}", "train.schedule=constant"]), out=tmp_path / name)
        found[name] = load_file(tmp_path / name / "checkpoints" / "step-00000006" / "model.safetensors")
    assert found["straight"].keys() == found["stopped"].keys()
    assert all(torch.equal(tensor, found["stopped"][name]) for name, tensor in found["straight"].items())


@emulated
def test_a_model_without_a_large_layer_is_refused(tiny: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no linear layer of the blocks is 256 wide"):
        engine(tiny, "train.precision=fp8")


def test_a_device_without_such_products_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"fp8 needs a CUDA device of compute capability 8\.9, and this run is on cpu; use bf16"):
        precision.resolve("fp8", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(UserError, match=r"NVIDIA A100 has 8\.0"):
        precision.resolve("fp8", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install torchao"):
        precision.resolve("fp8", torch.device("cuda"))


def test_a_run_on_the_cpu_is_refused_before_any_text_is_read(wide: dict[str, Any], tmp_path: Path) -> None:
    wide["data"]["source"]["paths"] = [str(tmp_path / "none.txt")]
    with pytest.raises(UserError, match="use bf16"):
        train(llmkit.load_spec(wide), out=tmp_path / "run")


def test_models_cut_over_ranks_are_refused(wide: dict[str, Any]) -> None:
    spec = llmkit.load_spec(wide, overrides=["parallel.dp_shard=2"])
    with pytest.raises(UserError, match=r"precision fp8 is not supported with parallel\.dp_shard 2"):
        check_ranks(spec, 2)


def test_utilisation_is_held_to_twice_the_peak_of_bf16(wide: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.train.speed.peak", lambda device, dtype, cache: {torch.bfloat16: 100.0}[dtype])
    assert Speed.of(llmkit.load_spec(wide), CPU, 1).peak == 200
    assert Speed.of(llmkit.load_spec(wide, overrides=["train.precision=bf16"]), CPU, 1).peak == 100
