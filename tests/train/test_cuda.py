"""What only a GPU can show. Skipped without one; `pytest tests/train/test_cuda.py` is all that is to be run where there is one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.core.interfaces.objective import Batch
from llmkit.model.build import build
from llmkit.model.init import initialise
from llmkit.train import fp8, world
from llmkit.train.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

CUDA = torch.device("cuda")
PRECISIONS = ["fp32", "bf16", "bf16_autocast", "fp16"]


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def without_fp8() -> str | None:
    if importlib.util.find_spec("torchao") is None:
        return "torchao is not installed"
    if torch.cuda.get_device_capability() < fp8.CAPABILITY:
        return "the card has no products in 8 bits"
    return None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_twenty_steps_on_a_gpu_are_those_of_the_cpu(
    tiny: dict[str, Any], tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["train.steps=20", "train.micro_batch_size=2"]
    train(llmkit.load_spec(tiny, overrides=[*overrides, f"train.precision={precision}"]), out=tmp_path / "gpu")
    on_the_cpu(monkeypatch)
    train(llmkit.load_spec(tiny, overrides=[*overrides, "train.precision=fp32"]), out=tmp_path / "cpu")
    tolerance = 1e-4 if precision == "fp32" else 2e-2
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=tolerance)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_on_a_gpu_that_was_stopped_goes_on_as_if_it_had_not(
    tiny: dict[str, Any], tmp_path: Path, precision: str, compiled: bool
) -> None:
    tiny["train"].update(precision=precision, compile=compiled, schedule="constant")
    for name, stops in (("straight", [10]), ("stopped", [4, 10])):
        for steps in stops:
            train(llmkit.load_spec(tiny, overrides=[f"train.steps={steps}"]), out=tmp_path / name)
    one, other = (load_file(tmp_path / name / "checkpoints" / "step-00000010" / "model.safetensors") for name in ("straight", "stopped"))
    # Not bit for bit: some of the kernels add up in an order of their own.
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=1e-4)


SYNCHRONISING = {"alibi": ["model.position=alibi"], "window": ["model.block.attention.window=8"], "documents": ["data.mask_documents=true"]}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("overrides", [[], *SYNCHRONISING.values()], ids=["rope", *SYNCHRONISING])
def test_a_step_synchronises_with_the_gpu_once(
    tiny: dict[str, Any], tmp_path: Path, precision: str, compiled: bool, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA itself is told to raise wherever the CPU waits, but for the one place that reads."""
    del tiny["train"]["checkpoint_every"]
    read, reads = world.read, []

    def reading(*values: Any) -> list[float]:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")
        try:
            reads.append(1)
            return read(*values)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    monkeypatch.setattr(world, "read", reading)
    counts: list[int] = []

    def watch(step: int, micros: Sequence[Batch]) -> None:
        counts.append(len(reads))
        # From the third step on: the compiler is at work before. Not at the end, which evaluates and saves.
        torch.cuda.set_sync_debug_mode("error" if 2 <= step < 7 else "default")

    spec = llmkit.load_spec(
        tiny, overrides=["train.steps=8", f"train.precision={precision}", f"train.compile={str(compiled).lower()}", *overrides]
    )
    try:
        train(spec, out=tmp_path / "run", witness=watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [after - before for before, after in pairwise(counts[1:7])] == [1] * 5


def test_batches_that_cross_beside_the_computation_are_the_ones_that_were_asked_for(tiny: dict[str, Any], tmp_path: Path) -> None:
    seen: dict[int, list[list[int]]] = {}

    def keep(step: int, micros: Sequence[Batch]) -> None:
        assert all(micro.ids.is_cuda for micro in micros)
        seen[step] = [row for micro in micros for row in micro.ids.tolist()]

    train(llmkit.load_spec(tiny, overrides=["train.steps=40", "train.micro_batch_size=1"]), out=tmp_path / "gpu", witness=keep)
    told: dict[int, list[list[int]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        on_the_cpu(patch)
        train(
            llmkit.load_spec(tiny, overrides=["train.steps=40", "train.micro_batch_size=1"]),
            out=tmp_path / "cpu",
            witness=lambda step, micros: told.update({step: [row for micro in micros for row in micro.ids.tolist()]}),
        )
    assert seen == told


FLEX = {
    "alibi": {"position": "alibi"},
    "t5": {"position": "t5"},
    "window": {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "window": 100}},
    "softcap": {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "softcap": 20.0}},
    "sinks": {"attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "sinks": True, "window": 100}},
}


@pytest.mark.parametrize("documents", [False, True], ids=["plain", "documents"])
@pytest.mark.parametrize("name", FLEX)
def test_compiled_flex_attention_is_the_dense_one_and_so_are_its_gradients(name: str, documents: bool) -> None:
    chosen: dict[str, Any] = {"attention": {"type": "mha", "n_heads": 4}, **FLEX[name]}
    position = chosen.pop("position", "rope")
    model = {"d_model": 256, "n_layers": 2, "max_seq_len": 500, "position": position}
    model["block"] = {"ffn": "swiglu", "norm": "rmsnorm", **chosen}
    spec = llmkit.load_spec({"name": "flex", "tokenizer": "bytes", "model": model, "train": {"steps": 1}})
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(256, (3, 500), generator=draws).to(CUDA)
    segments = (torch.rand(3, 500, generator=draws) < 0.02).long().cumsum(1).to(CUDA) if documents else None
    results = []
    for flex in (False, True):
        made = build(spec)
        initialise(made, spec.model, 0)
        made.to(CUDA)
        if flex:
            for block in made.blocks:
                block.compile()
        assert made.goes_by_flex(CUDA) is flex
        h, _ = made.features(Batch(ids, ids, None, segments))
        h.square().sum().backward()  # type: ignore[no-untyped-call]
        results.append([h.detach(), *(one.grad for one in made.parameters() if one.grad is not None)])
    for dense, flexible in zip(*results, strict=True):
        torch.testing.assert_close(flexible, dense, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_products_in_8_bits_learn_what_bf16_learns(tiny: dict[str, Any], tmp_path: Path, compiled: bool) -> None:
    if (reason := without_fp8()) is not None:
        pytest.skip(reason)
    tiny["model"]["d_model"] = 256
    tiny["train"].update(optimizer={"type": "adamw", "lr": 1e-3}, compile=compiled, steps=30)
    found = {}
    for mode in ("bf16", "fp8"):
        found[mode] = train(llmkit.load_spec(tiny, overrides=[f"train.precision={mode}"]), out=tmp_path / mode)["val_loss"]
    assert found["fp8"] == pytest.approx(found["bf16"], rel=2e-2)


def test_metrics_tell_the_most_memory_that_was_in_use(tiny: dict[str, Any], tmp_path: Path) -> None:
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    peaks = [row["peak_memory"] for row in rows if "loss" in row]
    assert len(peaks) == 10 and 0 < peaks[0] <= peaks[-1] == max(peaks)
