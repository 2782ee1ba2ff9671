"""A compiler that fails on one rank, or in the middle of a run: all ranks go on without it, and say why once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from listening import Listening

import llmkit
from llmkit.train.launch import free_port, rank_environment
from llmkit.train.loop import train


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row[key] for row in rows for key in ("loss", "val_loss") if key in row]


@pytest.mark.slow
def test_where_one_rank_cannot_compile_none_does_and_the_reason_is_said_once(tiny, tmp_path):
    tiny["train"] |= {"steps": 3}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    train(llmkit.load_spec(tiny), out=tmp_path / "alone")
    port = free_port()

    def start(rank: int) -> subprocess.Popen[str]:
        environment = {
            **rank_environment(rank, 2, port),
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / f"cache-{rank}"),
        }
        if rank == 1:
            environment["CXX"] = "no-such-compiler"
        command = [sys.executable, "-m", "llmkit", "train", str(tmp_path / "tiny.yaml"), "--set", "train.compile=true"]
        return subprocess.Popen([*command, "--out", str(tmp_path / "run")], env=environment, stderr=subprocess.PIPE, text=True)

    ranks = [start(rank) for rank in range(2)]
    try:
        said = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert said[0].count("train.compile is left out") == 1 and "on rank 1" in " ".join(said[0].split())
    assert "train.compile" not in said[1]
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)


class Breaking(Listening):
    """Takes the compiler away after the first step."""

    def __init__(self, patch: Any) -> None:
        super().__init__()
        self.patch = patch

    def step(self, row: dict[str, Any], total: int) -> None:
        self.patch.__enter__()


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """Neither before nor afterwards, in this process."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiler_that_fails_in_an_evaluation_is_left_out_from_there(tiny, tmp_path, nothing_compiled):
    from torch._inductor import config
    from torch._inductor.utils import fresh_inductor_cache

    tiny["train"] |= {"steps": 1, "compile": True}
    patch = config.patch({"cpp.cxx": ("no-such-compiler",)})
    told = Breaking(patch)
    with fresh_inductor_cache():
        try:
            result = train(llmkit.load_spec(tiny), out=tmp_path / "run", reporter=told)
        finally:
            patch.__exit__(None, None, None)
    assert sum("train.compile is left out" in line for line in told.said) == 1
    tiny["train"] |= {"compile": False}
    assert result["val_loss"] == pytest.approx(train(llmkit.load_spec(tiny), out=tmp_path / "plain")["val_loss"], abs=1e-5)
