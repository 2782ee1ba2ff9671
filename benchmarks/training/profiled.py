"""`python -m benchmarks.training --profile`, in a process of its own: torch's profiler around steps of llmkit's own loop, by group."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training.shapes import SHAPES
from benchmarks.training.ways.ours import Gate, spec_of, trainer_of
from llmkit.train.resume import Start
from llmkit.train.signals import StopWish

GROUPS = {
    "optimizer and clipping": r"adam|lerp|Optimizer|foreach|linalg_vector_norm|_clip",
    "attention": r"scaled_dot_product|flash_attention|bmm|aten::_softmax",
    "head, softmax, cross-entropy": r"head_cross_entropy|InChunks|log_softmax|nll_loss|logsumexp|cross_entropy",
    "matrix products": r"::mm$|addmm|_linear|::linear|matmul",
    "copies and casts": r"copy_|_to_copy|clone|contiguous|::cat|fill_|zero_|pad",
    "allocation": r"empty|resize|new_",
    "embedding": r"embedding|index",
    "norm, activation, rotation": r"norm|gelu|silu|::mul|::add|::sub|::neg|::div|sigmoid|gather|scatter|exp|sum|mean|rsqrt|pow|fused",
}
"""By the name of an operator; the first that fits."""

WARM, COUNTED = 2, 3


class Stopwatch:
    """In the place of the conductor: profiles some steps, and then ends the process."""

    def __init__(self, title: str) -> None:
        self.title, self.done = title, 0
        self.held = lambda: 0
        self.profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])])
        self.began = 0.0

    def begin(self) -> None: ...

    def tick(self) -> None:
        self.done += 1
        if self.done == WARM:
            self.profile.start()
            self.began = time.perf_counter()
        if self.done == WARM + COUNTED:
            seconds = time.perf_counter() - self.began
            self.profile.stop()
            self.show(seconds)
            os._exit(0)

    def show(self, seconds: float) -> None:
        events = self.profile.key_averages()
        times: Counter[str] = Counter()
        names: dict[str, Counter[str]] = {}
        for event in events:
            group = group_of(event.key)
            spent = own_time(event)
            times[group] += spent
            names.setdefault(group, Counter())[event.key] += spent
        times["python and waiting"] = max(seconds * 1e6 - sum(times.values()), 0)
        print(f"\n{self.title}: {seconds / COUNTED * 1e3:,.0f} ms a step")
        for group, spent in times.most_common():
            dearest = ", ".join(f"{name} {part / COUNTED / 1e3:.0f}" for name, part in names.get(group, Counter()).most_common(4))
            print(f"  {group:28} {spent / COUNTED / 1e3:8,.1f} ms {spent / seconds / 1e6:6.1%}   {dearest}", flush=True)


def own_time(event: Any) -> float:
    return float(event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total)


def group_of(name: str) -> str:
    return next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), "other")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("mode")
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    if arguments.compiled:
        torch._inductor.config.cpp.enable_kernel_profile = True
    title = f"{arguments.shape} {arguments.mode}{' compiled' if arguments.compiled else ''}"
    stopwatch = Stopwatch(title)
    with TemporaryDirectory() as directory:
        spec = spec_of(SHAPES[arguments.shape], arguments.mode, arguments.compiled)
        trainer_of(spec, Path(directory), Gate(stopwatch), stopwatch).run(Start(), StopWish())


if __name__ == "__main__":
    main()
