"""Where the time of llmkit's own step goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def show(shape: str, mode: str, *, compiled: bool, threads: int) -> None:
    """In a process of its own, so that the number of threads is its own."""
    command = [sys.executable, "-m", "benchmarks.training.profiled", shape, mode, *(["--compiled"] if compiled else [])]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=True)
