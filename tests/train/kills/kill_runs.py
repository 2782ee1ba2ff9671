"""Runs that are killed, begun again, and must end as if nothing had happened.

    python tests/train/kills/kill_runs.py --kills 200

A run is `llmkit train` on a small model, in a process of its own. It is killed with SIGKILL, at a random time or at one operation on its
files (see points.py), and the same command is run again, until it ends by itself. Its end must then be that of a run which was left alone:
every checkpoint that stays byte for byte, every row of metrics (without the clock), ledger and samples, the result, and nothing else in
the directory. After each kill, every checkpoint that has its name must be complete.

Processes are forked from one that has imported everything and computed nothing, so that an attempt costs its training alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from points import Point, Points

import llmkit
import llmkit.train.loop
from llmkit.cli import main as llmkit_main
from llmkit.train import checkpoint

CLOCK = ("seconds", "tokens_per_second", "mfu", "run", "resumed_from")
WORDS = "the model reads a token and says which one comes next because it has seen many before".split()  # noqa: SIM905
VARIANTS: dict[str, dict[str, Any]] = {
    "one micro-batch, fp32": {"seed": 0, "precision": "fp32", "keep_checkpoints": 2},
    "accumulation, fp32, keep best and every 6": {
        "seed": 1, "precision": "fp32", "micro_batch_size": 2, "keep_checkpoints": 1, "keep_every": 6, "keep_best": True,
    },
    "accumulation, bf16": {"seed": 2, "precision": "bf16", "micro_batch_size": 1, "keep_checkpoints": 1},
}  # fmt: skip


@dataclass
class Outcome:
    """What became of all runs. `lost` could not go on or ended wrongly, `torn` had a damaged checkpoint after a kill."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    attempts: int = 0
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.lost or self.unequal or self.torn)


@dataclass(frozen=True)
class Undisturbed:
    """A run that was left alone: how it ended, how long it took, and the points that it, and one which goes on, pass."""

    spec: Path
    end: dict[str, Any]
    seconds: float
    fresh: list[Point]
    resumed: list[Point]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # Whoever forks must not have threads.
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        outcome = kill_runs(Path(place), arguments.kills, random.Random(arguments.seed))
    report(outcome, time.perf_counter() - began)
    return 0 if outcome.right else 1


def kill_runs(place: Path, kills: int, chance: random.Random) -> Outcome:
    """So many kills over as many runs as it takes; each variant has a third of them."""
    outcome = Outcome()
    known = {name: undisturbed(place, name) for name in VARIANTS}
    deaths = {name: planned(one, chance) for name, one in known.items()}
    while outcome.kills.total() < kills:
        name = list(VARIANTS)[outcome.runs % len(VARIANTS)]
        one_run(place / "run", known[name], next(deaths[name]), kills, outcome)
    return outcome


def undisturbed(place: Path, name: str) -> Undisturbed:
    """Train a variant once without a kill, and once more killed in its middle, to know the points of both."""
    directory = place / str(len(list(place.iterdir())))
    directory.mkdir()
    spec = written_spec(directory, VARIANTS[name])
    # Building imports what nothing else does, and starts no thread. The first run prepares the data.
    llmkit.build(llmkit.load_spec(spec))
    wait(start(spec, directory / "warm"))
    began = time.perf_counter()
    assert wait(start(spec, directory / "run")) == 0, (directory / "run.log").read_text()
    seconds = time.perf_counter() - began
    assert wait(start(spec, directory / "counted", record=directory / "fresh.json")) == 0
    assert wait(start(spec, directory / "again", fatal=Point("write metrics.jsonl", 11))) == -signal.SIGKILL
    assert wait(start(spec, directory / "again", record=directory / "resumed.json")) == 0
    return Undisturbed(spec, end_of(directory / "run"), seconds, points(directory / "fresh.json"), points(directory / "resumed.json"))


def planned(known: Undisturbed, chance: random.Random) -> Iterator[list[Point | float]]:
    """For each run, where it dies: at a point of a fresh run, at one of a run that goes on, or at random times; one to three deaths.

    Every kind of operation comes once before any comes twice; in a fresh run those on checkpoints come first.
    """
    fresh = _each_in_turn(known.fresh, chance, first="checkpoints")
    resumed = _each_in_turn(known.resumed, chance)
    middle = Point("write metrics.jsonl", 11)
    while True:
        yield [next(fresh)]
        yield [chance.uniform(0, known.seconds) for _ in range(chance.choice([1, 2, 3]))]
        yield [next(fresh), chance.uniform(0, known.seconds)]
        yield [middle, next(resumed)]


def _each_in_turn(every: list[Point], chance: random.Random, first: str = "") -> Iterator[Point]:
    """Each kind of operation in turn, in an order of chance, at a random one of its times."""
    times: dict[str, list[Point]] = {}
    for point in every:
        times.setdefault(point.operation, []).append(point)
    while True:
        operations = list(times)
        chance.shuffle(operations)
        for operation in sorted(operations, key=lambda operation: first not in operation):
            yield chance.choice(times[operation])


def one_run(place: Path, known: Undisturbed, deaths: list[Point | float], kills: int, outcome: Outcome) -> None:
    """Begin a run, kill it as planned, begin it again until it ends by itself, and look at its end."""
    outcome.runs += 1
    shutil.rmtree(place, ignore_errors=True)
    what = " then ".join(str(death) for death in deaths)
    for death in [*deaths, None]:
        if death is not None and outcome.kills.total() >= kills:
            continue
        outcome.attempts += 1
        code = attempt(place, known, death)
        if code == -signal.SIGKILL:
            outcome.kills["at a random time" if isinstance(death, float) else death.operation] += 1  # type: ignore[union-attr]
            outcome.torn += [f"{what}: {one.directory.name}: {one.damage()}" for one in _checkpoints(place) if one.damage() is not None]
        elif code == 0:
            break
        else:
            outcome.lost.append(f"{what}: exit {code}: {place.with_suffix('.log').read_text()[-500:]}")
            return
    differing = [name for name, value in end_of(place).items() if value != known.end[name]]
    if differing:
        outcome.unequal.append(f"{what}: {', '.join(differing)}")


def attempt(place: Path, known: Undisturbed, death: Point | float | None) -> int:
    child = start(known.spec, place, fatal=death if isinstance(death, Point) else None)
    if isinstance(death, float):
        time.sleep(death)
        # It is ours until it is waited for: where it has ended, this does nothing.
        os.kill(child, signal.SIGKILL)
    return wait(child)


def start(spec: Path, out: Path, *, fatal: Point | None = None, record: Path | None = None) -> int:
    """`llmkit train SPEC --out OUT` in a child; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        watched = Points(out, fatal)
        if fatal is not None or record is not None:
            watched.watch()
        sys.argv = ["llmkit", "train", str(spec), "--out", str(out), "--json"]
        code = _code(llmkit_main)
        if record is not None:
            record.write_text(json.dumps(watched.passed))
    finally:
        os._exit(code)


def _code(program: Any) -> int:
    try:
        program()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def wait(child: int) -> int:
    """The child's exit code; minus the signal's number where one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def points(record: Path) -> list[Point]:
    return [Point(operation, nth) for operation, times in json.loads(record.read_text()).items() for nth in range(1, times + 1)]


def end_of(run: Path) -> dict[str, Any]:
    """All that a finished run leaves, without the clock and without what tells of its sessions."""
    files = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    kept = {
        name: path.read_bytes() for name, path in files.items() if name.startswith(("checkpoints/", "tokenizer/")) or name == "spec.yaml"
    }
    rows = {name: [_timeless(line) for line in path.read_text().splitlines()] for name, path in files.items() if name.endswith(".jsonl")}
    result = _timeless((run / "result.json").read_text()) if "result.json" in files else None
    return {"files": sorted(files), "checkpoints": kept, **{name: rows.get(name) for name in _ROWS}, "result.json": result}


_ROWS = ("metrics.jsonl", "ledger.jsonl", "samples.jsonl")


def _timeless(line: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(line).items() if key not in CLOCK}


def _checkpoints(run: Path) -> list[checkpoint.Checkpoint]:
    return checkpoint.listed(run / "checkpoints")


def written_spec(directory: Path, train: dict[str, Any]) -> Path:
    """A model that trains fourteen steps in a fraction of a second, with checkpoints, evaluations and samples that do not fall together."""
    lines = [" ".join(WORDS[(start + step * stride) % len(WORDS)] for step in range(12)) for start in range(19) for stride in (1, 2, 3, 5)]
    (directory / "text.txt").write_text("\n\n".join(lines))
    source = {"type": "text", "paths": [str(directory / "text.txt")], "split": "paragraph"}
    document = {
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "max_seq_len": 16,
            "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": {"type": "swiglu", "d_ff": 24}},
        },
        "data": {"source": source, "validation": 0.1, "cache": str(directory / "cache")},
        "train": {
            "steps": 14,
            "batch_size": 4,
            "optimizer": {"type": "adamw", "lr": 3e-3},
            "checkpoint_every": 3,
            "eval_every": 3,
            "eval_sequences": 8,
            "sample_every": 5,
            "sample_prompts": ["the ", "token"],
            "sample_tokens": 4,
            **train,
        },
    }
    path = directory / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def report(outcome: Outcome, seconds: float) -> None:
    for operation, times in sorted(outcome.kills.items(), key=lambda one: (-one[1], one[0])):
        print(f"{times:5}  {operation}")
    for what, found in (("lost", outcome.lost), ("unequal", outcome.unequal), ("torn", outcome.torn)):
        for one in found:
            print(f"{what}: {one}")
    kinds = len(outcome.kills) - ("at a random time" in outcome.kills)
    print(
        f"{outcome.kills.total()} kills at {kinds} kinds of operation and at random times, {outcome.runs} runs, "
        f"{outcome.attempts} attempts, {seconds:.0f} s; lost runs: {len(outcome.lost)}, unequal ends: {len(outcome.unequal)}, "
        f"damaged checkpoints: {len(outcome.torn)}"
    )


if __name__ == "__main__":
    sys.exit(main())
