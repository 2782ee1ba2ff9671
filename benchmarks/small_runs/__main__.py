"""Small runs an hour: a study's cells by `llmkit ablate`, beside the same cells as separate scripts with a hand-written loop.

    python -m benchmarks.small_runs --json FILE

A cell: 2 layers of width 64, 300 steps of 4 x 64 tokens, vocabulary 512, and the loss over the whole validation text. Arms are three
attentions by two norms. llmkit's way is one command from a cold start (no compiled code, no process, no plan; the text is prepared,
for both), timed to its report. The scripts' (`script.py`, nanoGPT's manner, same shapes, optimizer, schedule and tokens) are timed one
after the other on two threads, and two at a time on one thread each: some of them before llmkit's and some after, by the median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import yaml

ATTENTIONS = {
    "mha": {"type": "mha", "n_heads": 4},
    "gqa": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2},
    "mqa": {"type": "mqa", "n_heads": 4},
}
NORMS = ("layernorm", "rmsnorm")
ARMS = [(attention, norm) for attention in ATTENTIONS for norm in NORMS]
SCRIPT = Path(__file__).with_name("script.py")
ROOT = Path(__file__).parents[2]


@dataclass
class Found:
    """Seconds a cell of each way, and the validation losses of each side by arm."""

    one_after_the_other: list[float] = field(default_factory=list)
    two_at_a_time: list[float] = field(default_factory=list)
    ours: float = 0.0
    cells: int = 0
    scripts: dict[str, list[float]] = field(default_factory=dict)
    llmkit: dict[str, list[float]] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """What is printed, and written with --json."""
        one, two, ours = statistics.median(self.one_after_the_other), statistics.median(self.two_at_a_time), self.ours / self.cells
        losses = {arm: {"scripts": _mean(self.scripts.get(arm)), "llmkit": _mean(self.llmkit.get(arm))} for arm in map("/".join, ARMS)}
        return {
            "cells": self.cells,
            "seconds_a_cell": {"one after the other": one, "two at a time": two, "llmkit": ours},
            "cells_an_hour": {"one after the other": 3600 / one, "two at a time": 3600 / two, "llmkit": 3600 / ours},
            "times_as_many": {"as one after the other": one / ours, "as two at a time": two / ours},
            "seconds": {"one after the other": self.one_after_the_other, "two at a time": self.two_at_a_time, "llmkit": self.ours},
            "val_loss": losses,
        }


class Benchmark:
    """All ways in one directory."""

    def __init__(self, place: Path, seeds: int, steps: int, together: int) -> None:
        self.place, self.seeds, self.steps, self.together = place, seeds, steps, together
        self.found = Found()
        self.study = place / "small.yaml"
        self.study.write_text(yaml.safe_dump(self._study()))
        self.tokens = self._prepared()
        self._numbers = count()

    def scripts(self, cells: int) -> None:
        """So many cells one after the other, and as many two at a time."""
        for _ in range(cells):
            began = time.perf_counter()
            self._wait([self._script(threads=2)])
            self.found.one_after_the_other.append(time.perf_counter() - began)
        for _ in range(cells // 2):
            began = time.perf_counter()
            self._wait([self._script(threads=1), self._script(threads=1)])
            self.found.two_at_a_time.append((time.perf_counter() - began) / 2)

    def llmkit(self) -> None:
        """The whole study, from one command."""
        out = self.place / "study"
        command = [sys.executable, "-m", "llmkit", "ablate", str(self.study), "--out", str(out), "--workers", "2"]
        began = time.perf_counter()
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(self.place / "compiled"), "OMP_NUM_THREADS": "2"}
        subprocess.run([*command, "--together", str(self.together)], check=True, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
        self.found.ours = time.perf_counter() - began
        results = [(path, json.loads(path.read_text())) for path in out.glob("cells/*/*/result.json")]
        self.found.cells = len(results)
        for path, result in results:
            self.found.llmkit.setdefault(path.parts[-3].replace("+", "/"), []).append(result["val_loss"])

    def _script(self, threads: int) -> tuple[str, subprocess.Popen[str]]:
        number = next(self._numbers)
        attention, norm = ARMS[number % len(ARMS)]
        command = [sys.executable, str(SCRIPT), str(self.tokens), str(self.place / f"script-{number}")]
        options = ["--attention", attention, "--norm", norm, "--seed", str(number), "--steps", str(self.steps)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return f"{attention}/{norm}", subprocess.Popen([*command, *options], env=environment, stdout=subprocess.PIPE, text=True)

    def _wait(self, running: list[tuple[str, subprocess.Popen[str]]]) -> None:
        for arm, process in running:
            told, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"a script of {arm} ended with {process.returncode}")
            self.found.scripts.setdefault(arm, []).append(json.loads(told.splitlines()[-1])["val_loss"])

    def _prepared(self) -> Path:
        """The directory of the tokens, which both sides read; made here, before anything is timed."""
        made = "import sys, llmkit; from llmkit.data.prepare import prepare; print(prepare(llmkit.load_spec(sys.argv[1])).train.directory)"
        spec = self.place / "spec.yaml"
        spec.write_text(yaml.safe_dump(self._spec()))
        told = subprocess.run([sys.executable, "-c", made, str(spec)], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return Path(told.stdout.splitlines()[-1])

    def _spec(self) -> dict[str, Any]:
        block = {"attention": ATTENTIONS["mha"], "ffn": {"type": "mlp", "d_ff": 256, "bias": False}, "norm": "layernorm", "layout": "pre"}
        model = {"d_model": 64, "n_layers": 2, "max_seq_len": 64, "position": "learned", "block": block, "tie_embeddings": True}
        optimizer = {"type": "adamw", "lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1}
        return {
            "tokenizer": {"type": "bpe", "vocab_size": 512},
            "model": model,
            "data": {"source": "pydoc", "cache": str(self.place / "cache")},
            "train": {"steps": self.steps, "batch_size": 4, "optimizer": optimizer, "precision": "fp32"},
        }

    def _study(self) -> dict[str, Any]:
        return {
            "extends": self._spec(),
            "axes": {
                "attention": {name: {"model.block.attention": chosen} for name, chosen in ATTENTIONS.items()},
                "norm": {name: {"model.block.norm": name} for name in NORMS},
            },
            "baseline": {"attention": "mha", "norm": "layernorm"},
            "seeds": self.seeds,
            "match": "none",
            "metric": "val_loss",
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small_runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=300, help="of llmkit's study; a multiple of the arms, six")
    parser.add_argument("--scripts", type=int, default=12, help="cells of the scripts, each way; half of them before llmkit's")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--together", type=int, default=10, help="seeds that llmkit trains as one stacked model")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        benchmark = Benchmark(Path(place), arguments.cells // len(ARMS), arguments.steps, arguments.together)
        benchmark.scripts(arguments.scripts // 2)
        benchmark.llmkit()
        benchmark.scripts(arguments.scripts - arguments.scripts // 2)
        figures = benchmark.found.figures()
    show(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def show(figures: dict[str, Any]) -> None:
    """The figures as lines."""
    print(f"{figures['cells']} cells")
    for way, seconds in figures["seconds_a_cell"].items():
        print(f"{way:22} {seconds:6.2f} s a cell {figures['cells_an_hour'][way]:8.0f} an hour")
    for way, times in figures["times_as_many"].items():
        print(f"llmkit {times:.2f} times as many {way}")
    for arm, losses in figures["val_loss"].items():
        print(f"{arm:16} validation loss {losses['scripts']} in scripts, {losses['llmkit']} in llmkit")


def _mean(values: list[float] | None) -> float | None:
    return None if not values else round(statistics.fmean(values), 4)


if __name__ == "__main__":
    main()
