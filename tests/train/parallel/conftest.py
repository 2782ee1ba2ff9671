"""Ranks as real processes."""

import copy
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from arrangements import MODELS, Job

from llmkit.train.launch import rank_environment

RANKS = Path(__file__).parent / "ranks.py"


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to connections: a job uses its own half a minute later."""
    found: list[int] = []
    port = 10_000 + os.getpid() % 500 * 40
    while len(found) < number:
        port += 1
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


@pytest.fixture
def spec_of(tiny: dict[str, Any], tmp_path: Path) -> Callable[[str], str]:
    """The spec file of a model: 20 steps, a checkpoint after 10."""

    def write(model: str) -> str:
        document = copy.deepcopy(tiny)
        document["model"] |= copy.deepcopy(MODELS[model])
        document["train"] |= {"steps": 20, "checkpoint_every": 10}
        place = tmp_path / f"{model}.yaml"
        place.write_text(yaml.safe_dump(document))
        return str(place)

    return write


@pytest.fixture
def launch(spec_of: Callable[[str], str], tmp_path: Path) -> Callable[[int, Sequence[Job]], None]:
    """Run jobs one after another on so many ranks, which start once; each leaves its run in `tmp_path / name`."""

    def run(ranks: int, jobs: Sequence[Job]) -> None:
        listed = [
            {
                "spec": spec_of(job.model),
                "overrides": [*(f"parallel.{key}={value}" for key, value in job.parallel.items()), *job.overrides],
                "out": str(tmp_path / job.name),
                "resume": job.resume,
                "port": port,
            }
            for job, port in zip(jobs, free_ports(len(jobs)), strict=True)
        ]
        (tmp_path / "jobs.json").write_text(json.dumps(listed))
        command = [sys.executable, str(RANKS), str(tmp_path / "jobs.json")]
        started = [
            subprocess.Popen(
                command,
                env={**rank_environment(rank, ranks, 0), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        try:
            # One that fails leaves the others waiting for it.
            said = [process.communicate(timeout=240 if index == 0 else 20)[1] for index, process in enumerate(started)]
        finally:
            for process in started:
                process.kill()
        assert all(process.returncode == 0 for process in started), said[0][-3000:] + os.linesep + said[-1][-3000:]

    return run
