"""Every built-in optimizer in the real loop: it learns, it goes on bit for bit, and looking at it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.train.loop import train

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"type": "adamw", "lr": 3e-3, "lr_by_role": {"embedding": 1e-2, "vector": 1e-3}},
    "muon": {"type": "muon", "lr": 3e-3},
    "lion": {"type": "lion", "lr": 1e-3},
    "adafactor": {"type": "adafactor", "lr": 3e-2, "momentum": 0.9},
    "schedule_free": {"type": "schedule_free", "lr": 1e-2},
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row.get("loss") is not None]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_stopped_and_resumed_equals_one_that_was_left_alone_and_never_looked_at(tiny, tmp_path, name):
    tiny["train"] |= {"optimizer": OPTIMIZERS[name], "schedule": {"type": "constant", "warmup": 3}, "checkpoint_every": None}
    train(llmkit.load_spec(tiny), out=tmp_path / "alone")
    tiny["train"] |= {"steps": 6, "eval_every": 2, "eval_sequences": 2, "checkpoint_every": 4}
    train(llmkit.load_spec(tiny), out=tmp_path / "resumed")
    tiny["train"]["steps"] = 10
    assert train(llmkit.load_spec(tiny), out=tmp_path / "resumed")["resumed_from"] == 6
    assert losses(tmp_path / "resumed") == losses(tmp_path / "alone")
    assert losses(tmp_path / "alone")[-1] < losses(tmp_path / "alone")[0]
    left, right = weights(tmp_path / "alone", 10), weights(tmp_path / "resumed", 10)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_schedule_free_saves_and_evaluates_the_average(tiny, tmp_path):
    tiny["train"] |= {"optimizer": OPTIMIZERS["schedule_free"], "schedule": "constant", "steps": 4, "checkpoint_every": None}
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    state = load_file(tmp_path / "run" / "checkpoints" / "step-00000004" / "optimizer.safetensors")
    for name, x in weights(tmp_path / "run", 4).items():
        y, z = state[f"{name}/y"], state[f"{name}/z"]
        torch.testing.assert_close(y, 0.1 * z + 0.9 * x, rtol=1e-5, atol=1e-6)
        assert not torch.equal(x, y)
