"""How fast a run is, and how much of what the machine could do that is: tokens a second, and model FLOPs utilisation.

    mfu = FLOPs of training a token x tokens a second / (processes x FLOPs a second of the device's matrix product)

Chowdhery et al., arXiv 2204.02311, appendix B. The FLOPs are those of the model and no more: three times the matrix products of one
forward pass at `train.seq_len`, a multiply-add as two, attention as T x T whatever the mask (`llmkit build` counts the same, at
`max_seq_len`); what activation checkpointing computes again is none of them.

The peak is a card's published one where the table knows the card (bf16 and fp16, dense), else what a square matrix product reaches in
the precision of the run, on as many threads: measured once on a machine and kept in the data cache. On a machine that did other work
while it was measured the peak is too low, and utilisation too high: remove the cache's `speed` folder to have it measured again.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from llmkit.core.spec import Spec
from llmkit.data.cache import Cache, key_of
from llmkit.model.count import flops_of_spec

CARDS = {
    "B300": 2250e12,
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989.4e12,
    "H200 NVL": 835.5e12,
    "H200": 989.4e12,
    "H100 NVL": 835.5e12,
    "H100 PCIe": 756.5e12,
    "H100": 989.4e12,
    "H20": 148e12,
    "A100": 311.9e12,
    "A800": 311.9e12,
    "A40": 149.7e12,
    "A30": 165.1e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364.2e12,
    "RTX 5090": 209.5e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71.2e12,
}
"""FLOPs a second of a dense bf16 product accumulated in fp32, by a part of the card's name, from NVIDIA's data sheets and architecture
white papers. The first that fits, so longer names come first."""

SIZE = {"cpu": 768, "cuda": 8192}
"""Width of the square matrices of the measurement: large enough that nothing but the product counts."""

SHELF = "speed"


@dataclass(frozen=True)
class Speed:
    """What turns the time of a step into figures of merit.

    flops  of the model in one token of training
    peak   FLOPs a second that all processes together could do
    """

    flops: float
    peak: float

    @classmethod
    def of(cls, spec: Spec, device: torch.device, processes: int) -> Speed:
        """Of a spec whose precision is resolved, on so many processes with a device like this each."""
        forward = flops_of_spec(spec, spec.seq_len) / spec.seq_len
        dtype = torch.float32 if spec.train.precision == "fp32" else torch.float16 if spec.train.precision == "fp16" else torch.bfloat16
        # Cards with products in 8 bits do twice as many of them; the layers that stay in bf16 are held to that as well.
        factor = 2 if spec.train.precision == "fp8" else 1
        return cls(3 * forward, processes * factor * peak(device, dtype, Path(spec.data.cache)))

    def figures(self, tokens: int, seconds: float) -> dict[str, float]:
        """Of so many tokens in so many seconds, by the names of a metrics row."""
        return {"tokens_per_second": tokens / seconds, "mfu": self.flops * tokens / seconds / self.peak}


def peak(device: torch.device, dtype: torch.dtype, cache_directory: Path) -> float:
    """FLOPs a second of a matrix product on this device: published, or measured once and kept in the cache."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        known = published(torch.cuda.get_device_name(device))
        if known is not None:
            return known
    return _measured_once(str(device), dtype, cache_directory)


def published(card: str) -> float | None:
    """Dense bf16 FLOPs a second by the name that a card gives itself; None where the table does not have it."""
    if "Laptop" in card:
        # The same names, and whatever power the laptop's maker allows.
        return None
    return next((flops for name, flops in CARDS.items() if re.search(rf"\b{name}\b", card)), None)


@cache
def _measured_once(device: str, dtype: torch.dtype, cache_directory: Path) -> float:
    facts = _facts(torch.device(device), dtype)

    def make(draft: Path) -> None:
        record = {**facts, "flops_per_second": measured(torch.device(device), dtype)}
        (draft / "peak.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    entry = Cache(cache_directory).entry(SHELF, key_of(facts), make)
    return float(json.loads((entry / "peak.json").read_text(encoding="utf-8"))["flops_per_second"])


def measured(device: torch.device, dtype: torch.dtype, rounds: int = 12) -> float:
    """FLOPs a second of a square matrix product: the fastest of some rounds, in a tenth of a second."""
    size = SIZE.get(device.type, SIZE["cpu"])
    left, right, product = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    seconds = []
    for _ in range(rounds + 1):
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right, out=product)
        _wait(device)
        seconds.append(time.perf_counter() - began)
    # The first one finds the way to the kernel.
    return float(2 * size**3 / min(seconds[1:]))


def memory(device: torch.device) -> dict[str, int]:
    """The most bytes that this process's tensors have had on a GPU, by the name of a metrics row; nothing on a CPU."""
    return {"peak_memory": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _facts(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()}, {os.cpu_count()} cores"
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return {"machine": platform.node(), "device": where, "threads": threads, "dtype": str(dtype), "torch": torch.__version__}


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    named = (line for line in lines.read_text().splitlines() if line.startswith("model name")) if lines.exists() else iter(())
    return next((line.partition(":")[2].strip() for line in named), platform.processor() or platform.machine())
