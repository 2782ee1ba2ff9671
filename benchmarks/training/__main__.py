"""Tokens a second, memory and utilisation of a training step, beside litgpt, transformers, x-transformers and a GPT like nanoGPT's.

    python -m benchmarks.training                                        shapes A and B, fp32 and bf16, all that is installed
    python -m benchmarks.training --shape A --mode bf16 --rounds 3
    python -m benchmarks.training --shape A --mode bf16 --only llmkit --only litgpt-compiled --json figures.json
    python -m benchmarks.training --table figures.json                   what the file holds, nothing measured
    python -m benchmarks.training --shape A --mode fp32 --profile        where a step's time goes
    python -m benchmarks.training --vocabulary                           memory at 32,000 and at 256,000 entries

Each way has a process of its own, whose peak of resident memory less its imports is told; one works at a time. Rounds alternate between
the ways, so that a machine that slows down does so for all. The median of the rounds is told, and its ratio to the best of the peers.
The first step of each way, which compiles, is not counted. llmkit's way is its own training loop with all that it writes down; the peers'
is a bare one around their models (`ways/loop.py`). `product` is the matrix products of such a step and nothing else: what utilisation
is measured against. Peers: `pip install torch litgpt transformers x-transformers`, here or where `--peers` finds their python.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.training import profile, table
from benchmarks.training.race import Race, installed, ways_of
from benchmarks.training.shapes import SHAPES


def main() -> None:
    arguments = parse()
    if arguments.table is not None:
        table.show(table.load(arguments.table))
        return
    modes = arguments.mode or ["fp32", "bf16"]
    shapes = arguments.shape or ["A", "B"]
    if arguments.profile:
        for shape in shapes:
            for mode in modes:
                profile.show(shape, mode, compiled=arguments.compiled, threads=arguments.threads)
        return
    figures = table.load(arguments.json) if arguments.json is not None else {}
    for shape, vocabulary in [("A", 32_000), ("A", 256_000)] if arguments.vocabulary else [(name, None) for name in shapes]:
        for mode in modes:
            measure(arguments, figures, shape, mode, vocabulary)
    table.show(figures)


def measure(arguments: argparse.Namespace, figures: table.Figures, name: str, mode: str, vocabulary: int | None) -> None:
    """One shape in one precision, added to the figures and to their file."""
    shape = SHAPES[name] if vocabulary is None else SHAPES[name].with_vocabulary(vocabulary)
    title = f"{name} {mode}" if vocabulary is None else f"{name} {mode}, vocabulary {vocabulary}"
    ways = [way for way in ways_of(shape, mode) if chosen(way.name, arguments.only)]
    ways = [way for way in ways if way.library == "ours" or installed(way.library, arguments.peers)]
    with Race(shape, ways, arguments.peers, arguments.threads) as race:
        race.warm_up(2)
        for _ in range(arguments.rounds):
            race.round(arguments.steps)
        piece = race.figures()
    before = figures.setdefault(title, piece)
    before["ways"] = {**before["ways"], **piece["ways"]}
    if arguments.json is not None:
        table.save(figures, arguments.json)


def chosen(name: str, only: list[str]) -> bool:
    return not only or name == "product" or name in only


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--mode", choices=["fp32", "bf16"], action="append", help="bf16 is each library's own; `-pure` ways have no fp32")
    parser.add_argument("--only", metavar="WAY", action="append", default=[], help="such as llmkit or litgpt-compiled; product always")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a way in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="the interpreter of the peers' environment")
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the figures of a file, and measure nothing")
    parser.add_argument("--profile", action="store_true", help="where the time of llmkit's step goes")
    parser.add_argument("--compiled", action="store_true", help="with --profile: blocks compiled")
    parser.add_argument("--vocabulary", action="store_true", help="shape A at 32,000 and 256,000 entries")
    return parser.parse_args()


if __name__ == "__main__":
    main()
