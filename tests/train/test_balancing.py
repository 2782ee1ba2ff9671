"""A mixture of experts in the real loop: its bias and its losses are the same however a step is cut, saved, and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import llmkit
from llmkit.data.batches import Batches
from llmkit.data.prepare import prepare
from llmkit.train.loop import train

RATE = 0.01
BIAS = "blocks.{}.ffn.router.balance_bias"


@pytest.fixture
def routed(tiny: dict[str, Any]) -> dict[str, Any]:
    """Both kinds of balancing, and the z-loss."""
    balancing = {"bias_rate": RATE, "balance_loss": 0.1, "z_loss": 0.01}
    tiny["model"]["block"]["ffn"] = {"type": "moe", "n_experts": 8, "n_active": 2, "d_ff": 16, "score": "sigmoid", **balancing}
    tiny["train"] |= {"schedule": "constant", "steps": 6}
    return tiny


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row.get("loss") is not None]


def test_after_a_step_the_bias_is_the_rule_over_all_tokens_of_the_step(routed, tmp_path):
    routed["train"] |= {"steps": 1, "micro_batch_size": 1}
    spec = llmkit.load_spec(routed)
    train(spec, out=tmp_path / "run")
    batches = Batches(prepare(spec).train, seq_len=32, batch_size=4, seed=0)
    _, aux = llmkit.build(spec).features(batches.batch(batches.items(0)))
    saved = weights(tmp_path / "run", 1)
    for layer in range(2):
        load = aux.stats[f"blocks.{layer}.ffn.load"]
        assert load.sum() == 4 * 32 * 2
        torch.testing.assert_close(saved[BIAS.format(layer)], RATE * torch.sign(load.double().mean() - load).float())
    assert not torch.equal(saved[BIAS.format(0)], saved[BIAS.format(1)])


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_equals_the_big_batch_in_weights_and_biases(routed, tmp_path, micro):
    train(llmkit.load_spec(routed), out=tmp_path / "big")
    routed["train"]["micro_batch_size"] = micro
    train(llmkit.load_spec(routed), out=tmp_path / "cut")
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "big"), abs=1e-5)
    torch.testing.assert_close(weights(tmp_path / "cut", 6), weights(tmp_path / "big", 6), atol=5e-5, rtol=1e-3)


def test_the_bias_is_saved_goes_on_bit_for_bit_and_no_optimizer_sees_it(routed, tmp_path):
    train(llmkit.load_spec(routed), out=tmp_path / "alone")
    routed["train"]["steps"] = 3
    train(llmkit.load_spec(routed), out=tmp_path / "resumed")
    routed["train"]["steps"] = 6
    assert train(llmkit.load_spec(routed), out=tmp_path / "resumed")["resumed_from"] == 3
    left, right = weights(tmp_path / "alone", 6), weights(tmp_path / "resumed", 6)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    steps = left[BIAS.format(0)] / RATE
    assert steps.any() and steps.abs().max() <= 6.01
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    optimizer = json.loads((tmp_path / "alone" / "checkpoints" / "step-00000006" / "optimizer.json").read_text())
    names = [name for group in optimizer["groups"] for name in group["params"]]
    assert "blocks.0.ffn.experts.down" in names and "blocks.0.ffn.router.weight" in names
    assert not [name for name in names if "balance_bias" in name]
    assert torch.equal(llmkit.load_run(tmp_path / "alone").model.state_dict()[BIAS.format(1)], left[BIAS.format(1)])


def test_balancing_uses_experts_more_evenly_than_leaving_them_alone(routed, tmp_path):
    """The largest load over the mean, 4 where all tokens go to the same 2 of 8 experts."""
    largest = {}
    for name, rate in {"alone": None, "balanced": 0.003}.items():
        routed["model"]["block"]["ffn"] |= {"score": "softmax", "balance_loss": 0.0, "z_loss": 0.0, "bias_rate": rate}
        routed["train"]["steps"] = 60
        spec = llmkit.load_spec(routed)
        train(spec, out=tmp_path / name)
        batches = Batches(prepare(spec).train, seq_len=32, batch_size=16, seed=1)
        with torch.no_grad():
            _, aux = llmkit.load_run(tmp_path / name).model.features(batches.batch(batches.items(0)))
        largest[name] = sum(float(load.max() / load.double().mean()) for load in aux.stats.values()) / 2
    assert largest["balanced"] < 0.9 * largest["alone"]


@pytest.mark.slow
def test_two_ranks_that_accumulate_train_as_one_process_does(routed, tmp_path):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(routed))
    command = [sys.executable, "-m", "llmkit", "train", str(tmp_path / "spec.yaml"), "--out"]
    for name, more in (("one", []), ("two", ["--processes", "2", "--set", "train.micro_batch_size=1"])):
        done = subprocess.run(
            [*command, str(tmp_path / name), *more], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    torch.testing.assert_close(weights(tmp_path / "two", 6), weights(tmp_path / "one", 6), atol=5e-5, rtol=1e-3)
