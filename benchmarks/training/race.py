"""The processes of a comparison, and their turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.training.shapes import Shape

ROOT = Path(__file__).parents[2]
NAMES = {"ours": "llmkit", "x_transformers": "x-transformers"}


@dataclass(frozen=True)
class Way:
    """A library in a precision (fp32, bf16, fp8, or pure: everything in bf16, optimizer states too), eager or compiled."""

    library: str
    precision: str
    compiled: bool

    @property
    def name(self) -> str:
        special = self.precision if self.precision in ("pure", "fp8") else ""
        parts = [NAMES.get(self.library, self.library), special, "compiled" * self.compiled]
        return "-".join(filter(None, parts))


def ways_of(shape: Shape, mode: str) -> list[Way]:
    """Every way there is to train a shape."""
    ways = [Way("product", mode, False)]
    ways += [Way("ours", mode, compiled) for compiled in (False, True)]
    for library in ("litgpt", "transformers", "x_transformers", *(["nanogpt"] if shape.family == "gpt" else [])):
        ways += [
            Way(library, precision, compiled) for precision in (mode, *(["pure"] if mode == "bf16" else [])) for compiled in (False, True)
        ]
    return ways


def installed(library: str, python: str) -> bool:
    """Whether the peers' interpreter has it."""
    if library in ("product", "nanogpt"):
        return True
    asked = f"import importlib.util as u, sys; sys.exit(u.find_spec({library!r}) is None)"
    return subprocess.run([python, "-c", asked], check=False).returncode == 0


class Race:
    """A process a way. Use it in a `with`, which ends them. `peers` is the interpreter of all that is not llmkit's; None: this one."""

    def __init__(self, shape: Shape, ways: list[Way], peers: str | None, threads: int) -> None:
        self.shape, self.ways, self.threads = shape, ways, threads
        self.seconds: dict[str, list[float]] = {way.name: [] for way in ways}
        self.cpu_seconds: dict[str, list[float]] = {way.name: [] for way in ways}
        self.first: dict[str, float] = {}
        self.memory: dict[str, dict[str, int]] = {}
        self._peers = peers
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._said: dict[str, IO[str]] = {}

    def __enter__(self) -> Self:
        for way in self.ways:
            self._workers[way.name] = self._start(way)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in list(self._workers):
            self._end(name)

    def warm_up(self, steps: int) -> None:
        """Build, compile, and the first steps, one way after the other. A way that fails is told and left out."""
        for way in self.ways:
            answer = self._order(way, steps)
            if answer is None:
                print(f"  {way.name}: failed, and is left out\n{self._end(way.name)}", file=sys.stderr, flush=True)
                continue
            self.first[way.name] = answer["seconds"]
            print(f"  {way.name}: first {steps} steps {answer['seconds']:.0f} s", file=sys.stderr, flush=True)
        self.ways = [way for way in self.ways if way.name in self.first]

    def round(self, steps: int) -> None:
        """So many steps of each way."""
        for way in self.ways:
            answer = self._order(way, steps)
            if answer is None:
                raise RuntimeError(f"{way.name} died\n{self._end(way.name)}")
            self.seconds[way.name].append(answer["seconds"] / steps)
            self.cpu_seconds[way.name].append(answer["cpu_seconds"] / steps)
            peak = max(answer["peak"], self.memory.get(way.name, {}).get("peak", 0))
            self.memory[way.name] = {"peak": peak, "held": answer["held"]}

    def figures(self) -> dict[str, Any]:
        """What was measured, as JSON has it."""
        return {
            "shape": asdict(self.shape),
            "threads": self.threads,
            "cores": os.cpu_count(),
            "measured": time.strftime("%Y-%m-%d"),
            "ways": {
                way.name: {"seconds": self.seconds[way.name], "first_seconds": self.first[way.name], **self.memory[way.name]}
                for way in self.ways
            },
        }

    def _start(self, way: Way) -> subprocess.Popen[str]:
        python = self._peers if self._peers is not None and way.library != "ours" else sys.executable
        shape = json.dumps(asdict(self.shape))
        command = [python, "-m", "benchmarks.training.worker", way.library, shape, way.precision, *(["--compiled"] if way.compiled else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        self._said[way.name] = TemporaryFile("w+")  # noqa: SIM115
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said[way.name], text=True
        )

    def _end(self, name: str) -> str:
        """End a worker; the last of what it said."""
        worker, said = self._workers.pop(name), self._said.pop(name)
        worker.kill()
        worker.wait()
        with said:
            said.seek(0)
            return said.read()[-2000:]

    def _order(self, way: Way, steps: int) -> dict[str, int | float] | None:
        worker = self._workers[way.name]
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps({"steps": steps}) + "\n")
            worker.stdin.flush()
        except BrokenPipeError:
            return None
        line = worker.stdout.readline()
        return json.loads(line) if line else None
