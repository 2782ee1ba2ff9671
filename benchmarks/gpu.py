"""Tokens a second, utilisation and memory of a training step on one GPU: llmkit beside litgpt and transformers.

    python -m benchmarks.gpu                                  Llamas of 350M and 1B, bf16, eager and compiled, all that is installed
    python -m benchmarks.gpu --shape 1B --batch 4             where a card has less memory
    python -m benchmarks.gpu --fp8                            and llmkit with products in 8 bits
    python -m benchmarks.gpu --json figures.json --peers PYTHON

The steps are those of `benchmarks.training` (forward, backward, clipping to 1, fused AdamW; llmkit's own loop with all that it writes
down, a bare one around the peers' models, whose bf16 is autocast). Each way has the card for itself, one after the other: two models
of 1B do not fit beside each other. Utilisation is the model's FLOPs, attention as T x T and nothing computed again, against the dense
bf16 peak that the card's maker publishes (in fp8 against twice that); peak is torch's largest allocation in the counted steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import table
from benchmarks.training.race import Race, Way, installed, ways_of
from benchmarks.training.shapes import SHAPES, Shape
from llmkit.train.speed import published

CARD = ("350M", "1B")
LIBRARIES = ("product", "ours", "litgpt", "transformers")


def main() -> None:
    arguments = parse()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu measures a CUDA device, and torch sees none here; benchmarks.training measures a processor")
    card = torch.cuda.get_device_name()
    peak = arguments.peak * 1e12 if arguments.peak is not None else published(card)
    if peak is None:
        sys.exit(f"no published peak is known of {card!r}; give its dense bf16 TFLOP/s as --peak")
    figures = {} if arguments.json is None else table.load(arguments.json)
    for name in arguments.shape or CARD:
        shape = SHAPES[name] if arguments.batch is None else replace(SHAPES[name], batch=arguments.batch)
        figures[f"{name} on {card}"] = measured(arguments, shape)
        if arguments.json is not None:
            table.save(figures, arguments.json)
    print("\n".join(line for title, piece in figures.items() for line in lines(title, piece, peak)))


def measured(arguments: argparse.Namespace, shape: Shape) -> dict[str, Any]:
    """The figures of every way, each of which is ended before the next begins."""
    piece: dict[str, Any] = {}
    for way in ways(shape, fp8=arguments.fp8):
        if way.library not in ("ours", "product") and not installed(way.library, arguments.peers):
            print(f"  {way.name}: is not installed, and is left out", file=sys.stderr)
            continue
        with Race(shape, [way], arguments.peers, arguments.threads) as race:
            race.warm_up(3)
            for _ in range(arguments.rounds if race.ways else 0):
                race.round(arguments.steps)
            found = race.figures()
        piece = {**found, "ways": {**piece.get("ways", {}), **found["ways"]}}
    return piece


def ways(shape: Shape, *, fp8: bool) -> list[Way]:
    """The ways of these libraries; without those that train in bf16 alone, which learn otherwise."""
    found = [way for way in ways_of(shape, "bf16") if way.library in LIBRARIES and way.precision != "pure"]
    return found + ([Way("ours", "fp8", True)] if fp8 else [])


def lines(title: str, piece: dict[str, Any], peak: float) -> list[str]:
    """A table of a shape, as Markdown."""
    shape, medians = Shape(**piece["shape"]), {name: statistics.median(way["seconds"]) for name, way in piece["ways"].items()}
    peers = [name for name in medians if name != "product" and not name.startswith("llmkit")]
    best = min(peers, key=lambda name: medians[name], default=None)
    roof = f"; the matrix products alone, {shape.products_flops() / medians['product'] / peak:.0%}" if "product" in medians else ""
    found = ["", f"{title}: {shape.tokens:,} tokens a step, peak {peak / 1e12:,.0f} TFLOP/s{roof}", ""]
    found += ["| way | tokens/s | ratio | utilisation | peak memory | ratio |", "|---|---|---|---|---|---|"]
    for name, way in piece["ways"].items():
        if name == "product":
            continue
        ratio = "" if best is None else f"{medians[best] / medians[name]:.2f}"
        memory = "" if best is None else f"{way['peak'] / piece['ways'][best]['peak']:.2f}"
        used = shape.flops() / medians[name] / (peak * (2 if "fp8" in name else 1))
        found.append(f"| {name} | {shape.tokens / medians[name]:,.0f} | {ratio} | {used:.0%} | {way['peak'] / 2**30:.1f} GiB | {memory} |")
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", choices=CARD, action="append")
    parser.add_argument("--batch", type=int, help="sequences in a step, in place of the shape's 16 and 8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps in a round")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--fp8", action="store_true", help="llmkit with train.precision fp8 as well (needs torchao)")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="dense bf16 peak of a card that the table does not know")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the interpreter of the peers' environment")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
