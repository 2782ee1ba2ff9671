"""Several processes train as one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import llmkit

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc_per_node",
    "2",
    "--master_port",
    "0",
    "--rdzv_backend",
    "c10d",
    "--rdzv_endpoint",
    "127.0.0.1:0",
]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


def losses(directory: Path) -> list[float]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in rows for key in ("loss", "val_loss") if key in row]


@pytest.fixture
def spec(tiny, tmp_path) -> str:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    return str(tmp_path / "tiny.yaml")


@pytest.mark.slow
def test_two_ranks_train_with_the_losses_of_one_process_and_speak_once(spec, tmp_path):
    train = ["-m", "llmkit", "train", spec, "--json", "--out"]
    one = run([sys.executable, *train, str(tmp_path / "one")])
    assert one.returncode == 0, one.stderr
    launched = run([*TORCHRUN, *train, str(tmp_path / "torchrun")])
    assert launched.returncode == 0, launched.stderr
    own = run([sys.executable, *train, str(tmp_path / "own"), "--processes", "2"])
    assert own.returncode == 0, own.stderr
    for name, done in (("torchrun", launched), ("own", own)):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
        assert json.loads(done.stdout)["step"] == 10
        assert "2 x cpu" in done.stderr


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(spec, tmp_path):
    train = [sys.executable, "-m", "llmkit", "train", spec, "--json", "--out", str(tmp_path / "run")]
    assert run([*train, "--set", "train.steps=5"]).returncode == 0
    more = run([*train, "--processes", "2"])
    assert more.returncode == 0, more.stderr
    assert json.loads(more.stdout)["resumed_from"] == 5


def test_processes_that_cannot_share_a_batch_are_refused_before_any_starts(spec, tmp_path):
    done = run([sys.executable, "-m", "llmkit", "train", spec, "--processes", "3", "--out", str(tmp_path / "run")])
    assert done.returncode == 2
    assert "batch_size 4 cannot be shared evenly by 3 processes" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_world_smaller_than_asked_for_is_said(spec, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes"]
    for processes in ("2", "1"):
        done = run([*launcher, processes, "-m", "llmkit", "train", spec, "--out", str(tmp_path / processes)])
        assert done.returncode == 0, done.stderr
        assert "1 x cpu" in done.stderr
        assert ("asked for more processes than it started (1)" in done.stderr) == (processes == "2")


@pytest.mark.slow
def test_a_terminals_ctrl_c_which_reaches_every_process_stops_all_ranks_after_the_same_step(tiny, tmp_path):
    tiny["train"] |= {"steps": 100_000, "checkpoint_every": None}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(tiny))
    command = [sys.executable, "-m", "llmkit", "train", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "run"), "--processes", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("the same command goes on from there") == 1
    assert llmkit.load_run(tmp_path / "run").step == json.loads(metrics.read_text().splitlines()[-1])["step"]
