"""Twenty of the kills that `kill_runs.py` does: no run is lost, and every end is that of a run which was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_runs_that_are_killed_at_any_moment_end_as_those_that_are_left_alone():
    harness = Path(__file__).parent / "kill_runs.py"
    # A process of its own: it forks, and so must have no threads.
    command = [sys.executable, str(harness), "--kills", "20"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost runs: 0, unequal ends: 0, damaged checkpoints: 0" in done.stdout
