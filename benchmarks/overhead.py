"""What a training loop costs beside the model: milliseconds a step over a bare loop, on a model so small that it shows.

    python -m benchmarks.overhead

One model of llmkit (2 layers, width 64, sequence 64, batch 4) in a bare loop, in accelerate's, in transformers' Trainer and in llmkit's
own, which writes a row of metrics and one of its ledger each step and tells its progress; and llmkit's loop around an objective that
computes nothing. A process a way, one at work at a time, rounds alternating; medians. The CPU time is that of all threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.training.race import Race, Way
from benchmarks.training.shapes import Shape

SHAPE = Shape("llama", layers=2, width=64, heads=4, kv_heads=4, d_ff=176, vocabulary=512, length=64, batch=4)
WAYS = ("bare", "accelerate_loop", "transformers_trainer", "transformers_trainer_logged", "ours", "nothing")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=WAYS, action="append", help="and `bare`, always")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="steps of a way in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    ways = [Way(name, "fp32", False) for name in WAYS if name == "bare" or not arguments.only or name in arguments.only]
    with Race(SHAPE, ways, None, arguments.threads) as race:
        race.warm_up(50)
        for _ in range(arguments.rounds):
            race.round(arguments.steps)
    show(race)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(race.figures(), indent=1) + "\n")


def show(race: Race) -> None:
    """Medians, and what each adds to the bare loop of the same round."""
    print(f"{'way':30} {'ms a step':>10} {'more than bare':>15} {'CPU ms':>8}")
    bare = race.seconds["bare"]
    for name, seconds in race.seconds.items():
        added = statistics.median(mine - plain for mine, plain in zip(seconds, bare, strict=True))
        cpu = statistics.median(race.cpu_seconds[name])
        more = "" if name in ("bare", "nothing") else f"{added * 1e3:.2f}"
        print(f"{name:30} {statistics.median(seconds) * 1e3:10.2f} {more:>15} {cpu * 1e3:8.2f}")


if __name__ == "__main__":
    main()
