"""One way of training in a process of its own, which does a step when it is told to.

It reads `{"steps": n}` lines and answers each with a line of JSON: `seconds` in all, `cpu_seconds` of all its threads, `peak` bytes since
this line, less what the imports take, `held` bytes of weights, gradients and optimizer states. The first answer counts building and
compiling as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.training.shapes import Shape


@dataclass(frozen=True)
class Job:
    """What a worker trains: `precision` fp32, bf16 (autocast, or whatever the library has for it) or pure (everything bf16)."""

    shape: Shape
    precision: str
    compiled: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Conductor:
    """Lets a training loop run for so many steps at a time. The loop calls `tick` after each step, and waits in there."""

    def __init__(self, orders: TextIO, answers: TextIO) -> None:
        self._orders, self._answers = orders, answers
        self._left = 0
        self._began = self._cpu_began = 0.0
        self._imports = _resident("VmRSS")
        self.held: Callable[[], int] = lambda: 0

    def begin(self) -> None:
        """Wait for the first order; building is part of it."""
        self._receive()

    def tick(self) -> None:
        """A step is done."""
        self._left -= 1
        if self._left == 0:
            _synchronise()
            seconds = time.perf_counter() - self._began
            cpu = time.process_time() - self._cpu_began
            self._answer({"seconds": seconds, "cpu_seconds": cpu, "peak": self._peak(), "held": self.held()})
            self._receive()

    def _receive(self) -> None:
        line = self._orders.readline()
        if not line:
            # Not a step more, and nothing of what a run does at its end.
            os._exit(0)
        self._left = json.loads(line)["steps"]
        _forget_peak()
        self._cpu_began = time.process_time()
        self._began = time.perf_counter()

    def _answer(self, told: dict[str, Any]) -> None:
        self._answers.write(json.dumps(told) + "\n")
        self._answers.flush()

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _resident("VmHWM") - self._imports


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _resident(field: str) -> int:
    """Bytes of this process in memory, now (VmRSS) or at most (VmHWM); 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library", help="a file of benchmarks/training/ways")
    parser.add_argument("shape", type=json.loads)
    parser.add_argument("precision", choices=["fp32", "bf16", "pure", "fp8"])
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    # Answers have the standard output for themselves, whatever a library prints.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(f"benchmarks.training.ways.{arguments.library}")
    if arguments.compiled:
        importlib.import_module("torch._inductor.compile_fx")
    torch.manual_seed(0)
    module.train(Job(Shape(**arguments.shape), arguments.precision, arguments.compiled), Conductor(sys.stdin, answers))


if __name__ == "__main__":
    main()
