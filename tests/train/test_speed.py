"""Figures of merit: what they count, and what they count it against."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit import load_spec
from llmkit.core.spec import Spec
from llmkit.train.loop import train
from llmkit.train.speed import Speed, _measured_once, measured, peak, published

CPU = torch.device("cpu")


def shape(directory: Path, *, length: int, seq_len: int) -> Spec:
    model = {"d_model": 64, "n_layers": 3, "max_seq_len": length, "vocab_size": 500, "block": {"attention": {"type": "mha", "n_heads": 4}}}
    model["block"]["ffn"] = {"type": "swiglu", "d_ff": 160}
    return load_spec(
        {
            "name": "speed",
            "tokenizer": "bytes",
            "model": model,
            "data": {"cache": str(directory)},
            "train": {"steps": 1, "seq_len": seq_len, "precision": "fp32"},
        }
    )


def test_flops_are_palms_formula_at_the_length_that_is_trained_on_and_not_at_the_longest(tmp_path: Path):
    for length in (32, 128):
        found = Speed.of(shape(tmp_path, length=128, seq_len=length), CPU, 1).flops
        matrices = 3 * (4 * 64 * 64 + 3 * 64 * 160) + 64 * 500
        assert found == 6 * matrices + 12 * 3 * 64 * length


def test_utilisation_is_of_what_all_processes_could_do():
    one, two = Speed(flops=6e6, peak=3e9), Speed(flops=6e6, peak=6e9)
    assert one.figures(1000, 4.0) == {"tokens_per_second": 250.0, "mfu": 0.5}
    assert two.figures(1000, 4.0)["mfu"] == 0.25


def test_processes_add_up(tmp_path: Path):
    spec = shape(tmp_path, length=32, seq_len=32)
    assert Speed.of(spec, CPU, 4).peak == 4 * Speed.of(spec, CPU, 1).peak


def test_a_peak_is_measured_once_on_a_machine_and_read_by_the_processes_after_it(tmp_path: Path):
    first = peak(CPU, torch.float32, tmp_path)
    _measured_once.cache_clear()
    assert peak(CPU, torch.float32, tmp_path) == first
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("speed/*/peak.json"))
    assert record["flops_per_second"] == first and record["dtype"] == "torch.float32"


def test_another_number_of_threads_or_another_precision_is_another_peak(tmp_path: Path):
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            _measured_once.cache_clear()
            for dtype in (torch.float32, torch.bfloat16):
                peak(CPU, dtype, tmp_path)
    finally:
        torch.set_num_threads(threads)
        _measured_once.cache_clear()
    assert len(list(tmp_path.glob("speed/*/peak.json"))) == 4


def test_what_is_measured_is_within_what_a_core_can_do():
    # 1 MFLOP/s is less than any, and a core with two AVX-512 units at 6 GHz does 384 GFLOP/s in fp32.
    assert 1e6 < measured(CPU, torch.float32) < 400e9 * max(torch.get_num_threads(), 1)


@pytest.mark.parametrize(
    ("card", "flops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
    ],
)
def test_a_card_has_the_dense_bf16_peak_of_its_data_sheet(card: str, flops: float):
    assert published(card) == pytest.approx(flops, rel=0.005)


@pytest.mark.parametrize("card", ["Some Accelerator 1", "NVIDIA RTX A4000", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H2000"])
def test_a_card_that_the_table_does_not_have_is_measured(card: str):
    assert published(card) is None


def test_each_training_row_of_metrics_has_both_figures_and_they_agree(tiny: dict[str, Any], tmp_path: Path):
    spec = load_spec(tiny)
    train(spec, out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "loss" in row]
    speed = Speed.of(spec, CPU, 1)
    assert len(trained) == 10
    for row in trained:
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * speed.flops / speed.peak)
        assert row["tokens_per_second"] == pytest.approx(4 * 32 / row["seconds"])
