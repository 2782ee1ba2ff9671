"""`llmkit data prepare` on inputs of two sizes: peak memory, and the same bytes whatever the number of workers and the kills on the way.

    python benchmarks/data_memory.py --text books.jsonl.xz --megabytes 200 2000
    python benchmarks/data_memory.py --megabytes 20 100 --kills 3

The input is made from a seed: JSON lines whose documents are paragraphs drawn at random, of the text given and of words that nobody wrote,
with copies, near-copies, and lines that are cut in half. It is read, filtered, deduplicated exactly and by MinHash, and encoded. Each size
goes through with one worker and with two, unless --workers; the largest once more with two and killed (SIGKILL) so many times on the way,
each time after another part of the time that it takes. Peak is the resident memory of all processes together, looked at 4 times a second;
what they share is counted once. The digest is of every token file, of the validation text and of what was set aside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil

FILE_BYTES = 64 << 20
SPEC: dict[str, Any] = {
    "name": "memory",
    "tokenizer": "bytes",
    "model": {"d_model": 64, "n_layers": 1, "max_seq_len": 256, "block": {"attention": {"type": "mha", "n_heads": 2}}},
    "train": {"steps": 1},
}


class Outcome(NamedTuple):
    """One run: seconds, the peak of all processes in bytes, and the digest of what came out; None where it was killed."""

    seconds: float
    peak: int
    digest: str | None


def main() -> None:
    arguments = parse()
    rows = []
    with TemporaryDirectory(dir=arguments.directory) as scratch:
        place = Path(scratch)
        paragraphs = list(read_paragraphs(arguments.text)) + list(made_up(random.Random(arguments.seed), 4000))
        for megabytes in arguments.megabytes:
            spec = make_input(place / f"{megabytes}", megabytes * 1_000_000, paragraphs, arguments.seed)
            for workers in arguments.workers:
                outcome = prepared(spec, place / f"{megabytes}-{workers}", workers)
                rows.append({"megabytes": megabytes, "workers": workers, "killed": 0, **outcome._asdict()})
                show(rows[-1])
        if arguments.kills:
            outcome = killed(spec, place / "killed", arguments.kills, rows[-1]["seconds"])
            rows.append({"megabytes": megabytes, "workers": 2, "killed": arguments.kills, **outcome._asdict()})
            show(rows[-1])
    largest = {row["digest"] for row in rows if row["megabytes"] == arguments.megabytes[-1]}
    print("the same bytes every time" if len(largest) == 1 else "NOT the same bytes")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(len(largest) != 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="JSON lines (.xz or plain) whose `text` is drawn from as well")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="where there is room for about five times the largest size")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def read_paragraphs(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            for line in file:
                yield from (part for part in json.loads(line)["text"].split("\n\n") if 100 < len(part) < 4000)


def made_up(rng: random.Random, count: int) -> Iterator[str]:
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randint(1, 9))) for _ in range(20_000)]
    common = ["the", "of", "and", "to", "that", "with", "have", "be"]
    for _ in range(count):
        yield " ".join(rng.choice(common if rng.random() < 0.3 else words) for _ in range(rng.randint(40, 120))) + "."


def make_input(directory: Path, size: int, paragraphs: list[str], seed: int) -> Path:
    """Files of JSON lines, and the spec that reads them."""
    directory.mkdir(parents=True)
    rng = random.Random(seed)
    written, number = 0, 0
    earlier = "the first document is copied as well."
    while written < size:
        with (directory / f"{number:04d}.jsonl").open("w", encoding="utf-8") as file:
            end = min(size, written + FILE_BYTES)
            while written < end:
                draw = rng.random()
                fresh = "\n\n".join(rng.sample(paragraphs, rng.randint(2, 12)))
                text = earlier if draw < 0.02 else f"{earlier} Or nearly." if draw < 0.04 else fresh
                earlier = text if draw >= 0.04 or len(earlier) > 20_000 else earlier
                written += file.write(json.dumps({"id": f"{number}-{written}", "text": text}) + "\n")
                if draw > 0.9995:
                    written += file.write('{"text": "this line is cut in ha\n')
        number += 1
    data = {
        "source": {"type": "jsonl", "paths": [str(directory / "*.jsonl")]},
        "filters": {"normalise": "normalise", "gopher": "gopher_quality", "pii": "pii"},
        "deduplicators": {"exact": "exact", "near": "minhash"},
    }
    spec = directory / "memory.json"
    spec.write_text(json.dumps(SPEC | {"data": data}))
    return spec


def prepared(spec: Path, place: Path, workers: int, patience: float | None = None) -> Outcome:
    """Prepare in a process of its own; killed with all that is in it after so many seconds."""
    command = [sys.executable, "-m", "llmkit", "data", "prepare", str(spec), "--out", str(place / "out"), f"--workers={workers}", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begun, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [*command, "--set", f"data.cache={place / 'cache'}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        if patience is not None and time.monotonic() - begun > patience:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.25)
    seconds = time.monotonic() - begun
    if patience is not None and process.returncode == -signal.SIGKILL:
        return Outcome(seconds, peak, None)
    if process.returncode:
        sys.exit((process.stderr.read() if process.stderr else b"").decode())
    return Outcome(seconds, peak, digest_of(place / "out"))


def killed(spec: Path, place: Path, kills: int, seconds: float) -> Outcome:
    """Killed so many times, each after a like part of the time, and then left to finish."""
    outcomes = [prepared(spec, place, 2, patience=seconds / (kills + 1)) for _ in range(kills)]
    outcomes.append(prepared(spec, place, 2))
    return Outcome(sum(one.seconds for one in outcomes), max(one.peak for one in outcomes), outcomes[-1].digest)


def resident(pid: int) -> int:
    """Bytes of a process and all its children, what several share once (Linux's proportional set size)."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def digest_of(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("train-*", "validation-*", "broken.jsonl") for path in directory.glob(pattern)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def show(row: dict[str, Any]) -> None:
    told = f", killed {row['killed']} times" if row["killed"] else ""
    print(
        f"{row['megabytes']:>6} MB, {row['workers']} workers{told}: {row['seconds']:.0f} s, peak {row['peak'] / 2**20:.0f} MiB, "
        f"{row['digest'][:16]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
