"""Text to token files: megabytes a second of llmkit's stage `tokenize` beside the `tokenizers` library called by hand, in one run.

    python benchmarks/encoding.py --text books.jsonl.xz --megabytes 100 --rounds 3 --workers 2
    python benchmarks/encoding.py --text books.jsonl.xz --tokenizer DIRECTORY              a published one instead of a bpe trained here

By hand is what one would write: documents in memory, in batches of 1,000 to `encode_batch` (or `encode_batch_fast`, which makes no
offsets), its own threads over as many cores, and the ids of each batch with end-of-text into a file of uint16 or uint32. llmkit reads its
shards of Parquet, starts its processes, writes starts, sizes, ids and checksums, and flushes to the disk: all of it counts. `gigatoken`
is llmkit's quicker way where that package is installed; `library` is the same without it. Every way must leave the same tokens.
Rounds alternate, medians; the ratio is to the best way by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from llmkit import catalog
from llmkit.core.component import Chosen
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.kinds import Kind
from llmkit.data.document_shards import SHARD_BYTES, Row, ShardWriter
from llmkit.data.encoding import Encoding, Piece
from llmkit.data.tokens import TokenFile, seal
from llmkit.data.workers import Task, Workers
from llmkit.plugins.tokenizers import fast

BATCH = 1000
LEARNED = 4 << 20


class Made(NamedTuple):
    """What all ways share: the text, as documents and as shards, and the tokenizer."""

    texts: list[str]
    shards: list[Path]
    bytes: int
    chosen: Chosen
    directory: Path
    vocab_size: int
    eos_id: int
    workers: int


Way = Callable[[Made, Path], str]
"""Writes the tokens into an empty directory, and gives their SHA-256."""


def main() -> None:
    arguments = parse()
    with TemporaryDirectory(dir=arguments.directory) as scratch:
        made = make(arguments, Path(scratch))
        print(f"{made.bytes / 1e6:.1f} MB in {len(made.texts):,} documents, {made.workers} cores, vocabulary {made.vocab_size:,}")
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        digests = set()
        for _ in range(arguments.rounds):
            for name in WAYS:
                taken, digest = timed(name, made, Path(scratch) / "out")
                seconds[name].append(taken)
                digests.add(digest)
        if len(digests) > 1:
            raise SystemExit(f"the ways left {len(digests)} different arrays of tokens")
    show(seconds, made.bytes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="JSON lines (.xz or plain) with `text`")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--characters", type=int, default=4000, help="documents are cut to so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="cores of every way")
    parser.add_argument("--tokenizer", help="a directory or file for `pretrained`; else a bpe of --vocabulary ids is trained")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--directory", help="where the files lie meanwhile")
    return parser.parse_args()


def make(arguments: argparse.Namespace, scratch: Path) -> Made:
    texts = list(documents(arguments.text, arguments.megabytes * 1_000_000, arguments.characters))
    shards = list(write_shards(texts, scratch))
    name, params = ("pretrained", {"path": arguments.tokenizer}) if arguments.tokenizer else ("bpe", {"vocab_size": arguments.vocabulary})
    component = catalog().find(Kind.tokenizer, name)
    chosen = Chosen(component, component.params.model_validate(params))
    tokenizer: Tokenizer = component.resolve().train(chosen.params, iter(texts[: LEARNED // arguments.characters]))
    directory = scratch / "tokenizer"
    directory.mkdir()
    tokenizer.save(directory)
    size = sum(len(text.encode()) for text in texts)
    return Made(texts, shards, size, chosen, directory, tokenizer.vocab_size, tokenizer.eos_id, arguments.workers)


def documents(path: Path, size: int, characters: int) -> Iterator[str]:
    """Text of a file, cut into documents, until there is enough; from its beginning again where it is short."""
    while True:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                for start in range(0, len(text), characters):
                    yield text[start : start + characters]
                    size -= characters
                    if size <= 0:
                        return


def write_shards(texts: list[str], scratch: Path) -> Iterator[Path]:
    held = 0
    start = 0
    for end, text in enumerate(texts, 1):
        held += len(text)
        if held >= SHARD_BYTES // 4 or end == len(texts):
            path = scratch / f"{start}.parquet"
            with ShardWriter(path) as writer:
                for index in range(start, end):
                    writer.add(Row(Document(str(index), texts[index]), 0))
            yield path
            start, held = end, 0


def timed(name: str, made: Made, directory: Path) -> tuple[float, str]:
    """Seconds and digest, in a process of its own: none inherits another's threads, caches or memory."""
    directory.mkdir()
    # A fork of this one would find its threads gone, and the library would do without.
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=work, args=(name, made, directory, results))
    process.start()
    found: tuple[float, str] = results.get()
    process.join()
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    return found


def work(name: str, made: Made, directory: Path, results: Any) -> None:
    begun = time.perf_counter()
    digest = WAYS[name](made, directory)
    results.put((time.perf_counter() - begun, digest))


def by_hand(made: Made, directory: Path, *, quickly: bool) -> str:
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(made.directory / "tokenizer.json"))
    encode = backend.encode_batch_fast if quickly else backend.encode_batch
    dtype, eos = np.dtype("<u2" if made.vocab_size <= 1 << 16 else "<u4"), made.eos_id
    with (directory / "tokens.bin").open("wb") as file:
        np.array([eos], dtype).tofile(file)
        for start in range(0, len(made.texts), BATCH):
            encodings = encode(made.texts[start : start + BATCH], add_special_tokens=False)
            np.concatenate([np.array([*encoding.ids, eos], dtype) for encoding in encodings]).tofile(file)
    with (directory / "tokens.bin").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def by_encode_batch(made: Made, directory: Path) -> str:
    return by_hand(made, directory, quickly=False)


def by_encode_batch_fast(made: Made, directory: Path) -> str:
    return by_hand(made, directory, quickly=True)


def ours(made: Made, directory: Path) -> str:
    pieces = tuple(Piece(path, (("train", index),), 0.0) for index, path in enumerate(made.shards))
    tasks = [Task(index, path.stat().st_size) for index, path in enumerate(made.shards)]
    Workers(made.workers).run(Encoding(pieces, made.chosen, made.directory), directory, tasks, lambda done, total: None)
    seal(directory, "train", sources={"text": len(made.texts)})
    return str(TokenFile(directory, "train").manifest["sha256"])


def ours_without_gigatoken(made: Made, directory: Path) -> str:
    # This process ends with the round.
    fast.quick = lambda backend: None
    return ours(made, directory)


WAYS: dict[str, Way] = {
    "tokenizers by hand, encode_batch": by_encode_batch,
    "tokenizers by hand, encode_batch_fast": by_encode_batch_fast,
    "llmkit, library": ours_without_gigatoken,
    "llmkit, gigatoken": ours,
}


def show(seconds: dict[str, list[float]], size: int) -> None:
    rates = {name: sorted(size / 1e6 / one for one in taken) for name, taken in seconds.items()}
    best = max(statistics.median(found) for name, found in rates.items() if "by hand" in name)
    print("| way | MB/s | ratio |\n|---|---|---|")
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.1f} ({found[0]:.1f} to {found[-1]:.1f}) | {median / best:.2f} |")


if __name__ == "__main__":
    main()
