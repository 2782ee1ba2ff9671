"""Near-duplicates found: documents a second, recall and precision of llmkit's `minhash` beside datatrove, datasketch and rensa, in one run.

    python benchmarks/minhash.py                                       llmkit alone, on text made from a seed
    python benchmarks/minhash.py --peers PYTHON --text books.jsonl.xz  beside what that interpreter has, on sentences of real text
    python benchmarks/minhash.py --only llmkit --documents 200000 --workers 2 --memory
    python benchmarks/minhash.py --curve curve.png                     the measured match rate beside 1 - (1 - s^8)^14

Every way reads the same JSON lines and writes those that stay, in a process of its own, on one core unless --workers; rounds alternate,
medians; the ratio is of documents a second of processor time. Words in runs of 5, 14 bands of 8 rows everywhere, clusters by connected
components. Documents are sentences drawn at random, from 40 to 800 words; half of them have copies, with up to 6% of their words replaced.
Recall and precision are of pairs in one cluster against the exact Jaccard similarity of all pairs, at 0.75. Peak is the processes' largest
resident memory, added up. Peers: `pip install 'datatrove[processing]' datasketch rensa 'xxhash<4' spacy`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORDS, BANDS, ROWS, THRESHOLD = 5, 14, 8, 0.75
EDITS = (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06)
Way = Callable[[Path, Path, argparse.Namespace], list[int]]
"""Reads the documents, writes those that stay, and gives for each the number of its cluster."""


def main() -> None:
    arguments = parse()
    if arguments.run:
        worker(arguments)
    elif arguments.curve:
        curve(arguments)
    else:
        race(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes of llmkit")
    parser.add_argument("--text", type=Path, help="JSON lines (.xz or plain) whose `text` the sentences are taken from")
    parser.add_argument("--peers", help="a Python that has the peers")
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--memory", action="store_true", help="leave out recall and precision, whose exact figures need all pairs")
    parser.add_argument("--curve", type=Path, help="draw the match rate instead, and print it")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def race(arguments: argparse.Namespace) -> None:
    """Rounds of every way, one after another, and then what each has found."""
    names = arguments.only or list(WAYS)
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        write_corpus(corpus, arguments.documents, arguments.text)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            for name in names:
                if (report := one_run(name, Path(folder), arguments)) is not None:
                    runs[name].append(report)
        figures = {name: summary(reports) for name, reports in runs.items() if reports}
        if not arguments.memory:
            texts = [json.loads(line)["text"] for line in corpus.open()]
            for name, figure in figures.items():
                figure.update(accuracy(texts, runs[name][0]["cluster"]))
    show(figures, arguments.documents)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def one_run(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """A process that does nothing else; None where the peer is not installed."""
    ours = name.startswith("llmkit")
    if not ours and arguments.peers is None:
        return None
    command = [sys.executable if ours else arguments.peers, __file__, "--run", name, "--workers", str(arguments.workers), "--work"]
    with TemporaryDirectory(dir=folder) as work:
        done = subprocess.run([*command, work], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: left out: {(done.stderr.strip().splitlines() or ['no word'])[-1]}", file=sys.stderr)
            return None
        report: dict[str, Any] = json.loads((Path(work) / "report.json").read_text())
    return report


def worker(arguments: argparse.Namespace) -> None:
    """What a process of a way does: imports and what is made once are not counted."""
    way = WAYS[arguments.run]()
    corpus, work = arguments.work.parent / "corpus.jsonl", arguments.work
    start, busy = time.perf_counter(), processor()
    cluster = way(corpus, work, arguments)
    seconds, busy = time.perf_counter() - start, processor() - busy
    kibibytes = peak() + sum(int(path.read_text()) for path in work.glob("*.peak"))
    (work / "report.json").write_text(
        json.dumps({"seconds": seconds, "processor": busy, "mebibytes": kibibytes / 1024, "cluster": cluster})
    )


def processor() -> float:
    """Seconds of this process and of those that it has ended."""
    return sum(os.times()[:4])


def peak() -> int:
    """KiB of this process, since it began; `getrusage` would count its parent's as well, where that was larger."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [report["seconds"] for report in reports]
    cluster = reports[0]["cluster"]
    return {
        "documents_per_second": len(cluster) / statistics.median(seconds),
        "slowest": len(cluster) / max(seconds),
        "fastest": len(cluster) / min(seconds),
        "documents_per_processor_second": len(cluster) / statistics.median(report["processor"] for report in reports),
        "kept": len(set(cluster)),
        "peak_mebibytes": max(report["mebibytes"] for report in reports),
    }


def accuracy(texts: list[str], cluster: list[int]) -> dict[str, Any]:
    import numpy as np

    from llmkit.data.audit import audit
    from llmkit.plugins.deduplicators.components import MinHashParams
    from llmkit.plugins.deduplicators.minhash import MinHash

    found = audit(MinHash(MinHashParams(threshold=THRESHOLD)), texts, np.array(cluster))
    assert found is not None
    return {"recall": found.recall, "precision": found.precision, "duplicates": found.duplicates}


def show(figures: dict[str, dict[str, Any]], documents: int) -> None:
    base = figures.get("datatrove", {}).get("documents_per_processor_second")
    heads = f"{'documents/s':>12} {'slowest to fastest':>20} {'a CPU second':>13} {'ratio':>6} {'recall':>7} {'precision':>9}"
    print(f"{documents:,} documents\n{'way':20} {heads} {'kept':>8} {'peak MiB':>9}")
    for name, figure in figures.items():
        spread = f"{figure['slowest']:,.0f} to {figure['fastest']:,.0f}"
        busy = figure["documents_per_processor_second"]
        ratio = f"{busy / base:.1f}" if base else ""
        exact = [f"{figure[key]:.3f}" if figure.get(key) is not None else "" for key in ("recall", "precision")]
        print(
            f"{name:20} {figure['documents_per_second']:12,.0f} {spread:>20} {busy:13,.0f} {ratio:>6} {exact[0]:>7} {exact[1]:>9} "
            f"{figure['kept']:8,} {figure['peak_mebibytes']:9,.0f}"
        )


def write_corpus(path: Path, documents: int, text: Path | None) -> None:
    """JSON lines in a random order, the same for the same arguments."""
    rng = random.Random(0)
    sentences = [sentence.split() for sentence in sentences_of(text)] if text else made_sentences(rng, min(documents * 4, 200_000))
    words = [word for sentence in sentences[:5000] for word in sentence]
    lines: list[str] = []
    while len(lines) < documents:
        original = document(rng, sentences)
        copies = rng.choice((0, 0, 0, 1, 1, 2))
        for copy in (original, *(edited(rng, original, words) for _ in range(copies))):
            lines.append(json.dumps({"id": str(len(lines)), "text": " ".join(copy)}) + "\n")
    del lines[documents:]
    rng.shuffle(lines)
    path.write_text("".join(lines))


def sentences_of(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        for line in file:
            yield from re.split(r"(?<=[.!?])\s+", json.loads(line)["text"])


def made_sentences(rng: random.Random, n: int) -> list[list[str]]:
    """Words with Zipf's frequencies."""
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(1, 9))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    drawn = iter(rng.choices(words, weights, k=n * 20))
    return [[next(drawn) for _ in range(rng.randint(5, 20))] for _ in range(n)]


def document(rng: random.Random, sentences: list[list[str]]) -> list[str]:
    length = int(40 * 20 ** rng.random())
    words: list[str] = []
    while len(words) < length:
        words += rng.choice(sentences)
    return words


def edited(rng: random.Random, words: list[str], others: list[str]) -> list[str]:
    rate = rng.choice(EDITS)
    return [rng.choice(others) if rng.random() < rate else word for word in words]


def rows_of(corpus: Path) -> Iterator[dict[str, str]]:
    with corpus.open() as file:
        yield from map(json.loads, file)


def write_kept(corpus: Path, work: Path, cluster: Iterable[int]) -> None:
    """The first of each cluster, as the peers' own writers write it."""
    seen: set[int] = set()
    with corpus.open() as lines, (work / "kept.jsonl").open("w") as kept:
        for line, number in zip(lines, cluster, strict=True):
            if number not in seen:
                seen.add(number)
                kept.write(json.dumps(json.loads(line)) + "\n")


def components(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(pairs), np.int64).reshape(-1, 2).T
    labels: list[int] = connected_components(coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(n, n)))[1].tolist()
    return labels


def llmkit(threshold: float | None) -> Callable[[], Way]:
    def ready() -> Way:
        from llmkit.core.interfaces.source import Document

        made(threshold).sketch([Document("", "the table of letters is made once")])
        return lambda corpus, work, arguments: find(corpus, work, arguments.workers, threshold)

    return ready


def made(threshold: float | None) -> Any:
    from llmkit.plugins.deduplicators.components import MinHashParams
    from llmkit.plugins.deduplicators.minhash import MinHash

    return MinHash(MinHashParams(words=WORDS, bands=BANDS, rows=ROWS, threshold=threshold))


def find(corpus: Path, work: Path, workers: int, threshold: float | None) -> list[int]:
    """As `llmkit data prepare` does it: shards of sketches in files, which are then mapped and resolved at once."""
    from concurrent.futures import ProcessPoolExecutor

    import numpy as np

    from llmkit.core.interfaces.deduplicator import Ragged

    bounds = [corpus.stat().st_size * part // workers for part in range(workers + 1)]
    tasks = [(corpus, bounds[part], bounds[part + 1], work / f"{part}", threshold) for part in range(workers)]
    if workers == 1:
        parts = [sketch(tasks[0])]
    else:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(sketch, tasks))
    with (work / "sketches").open("wb") as whole:
        for *_, path, _ in tasks:
            whole.write(path.read_bytes())
            path.unlink()
    lengths, sizes = np.concatenate(parts, axis=1)
    values = np.memmap(work / "sketches", np.uint64, "r")
    keeper = made(threshold).resolve(Ragged(values, np.concatenate([[0], np.cumsum(lengths)])), sizes).keeper.tolist()
    write_kept(corpus, work, keeper)
    found: list[int] = keeper
    return found


def sketch(task: tuple[Path, int, int, Path, float | None]) -> Any:
    """The sketches of the lines that begin in a range of bytes, and how long they and their texts are."""
    import numpy as np

    corpus, start, end, path, threshold = task
    deduplicator = made(threshold)
    lengths: list[int] = []
    sizes: list[int] = []
    with path.open("wb") as file:
        for documents in batches(corpus, start, end):
            rows = deduplicator.sketch(documents)
            lengths += map(len, rows)
            sizes += (len(document.text.encode()) for document in documents)
            file.write(np.concatenate(rows).tobytes())
    if multiprocessing.parent_process() is not None:
        path.with_suffix(".peak").write_text(str(peak()))
    return np.array([lengths, sizes], np.int64)


def batches(corpus: Path, start: int, end: int) -> Iterator[list[Any]]:
    from llmkit.core.interfaces.source import Document

    documents: list[Document] = []
    with corpus.open("rb") as file:
        file.seek(max(start - 1, 0))
        if start:
            file.readline()
        while file.tell() < end and (line := file.readline()):
            row = json.loads(line)
            documents.append(Document(row["id"], row["text"]))
            if len(documents) == 1000:
                yield documents
                documents = []
    if documents:
        yield documents


def datatrove() -> Way:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from loguru import logger

    logger.remove()
    config = MinhashConfig(n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)

    def run(corpus: Path, work: Path, arguments: argparse.Namespace) -> list[int]:
        reader = JsonlReader(str(corpus.parent), glob_pattern=corpus.name)
        at = {name: str(work / name) for name in ("signatures", "buckets", "remove", "kept", "gone")}
        stages: list[tuple[int, list[Any]]] = [
            (1, [reader, MinhashDedupSignature(at["signatures"], config=config)]),
            (BANDS, [MinhashDedupBuckets(at["signatures"], at["buckets"], config=config)]),
            (1, [MinhashDedupCluster(at["buckets"], at["remove"], config=config, save_cluster_id=True)]),
        ]
        writers = [JsonlWriter(at[name], compression=None) for name in ("gone", "kept")]
        last = [reader, MinhashDedupFilter(at["remove"], exclusion_writer=writers[0], load_cluster_ids=True), writers[1]]
        for number, (tasks, pipeline) in enumerate([*stages, (1, last)]):
            LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(work / f"logs{number}")).run()
        of_id = {row["id"]: row["metadata"].get("minhash_cluster_id", -1) for row in rows_in(work / "kept", work / "gone")}
        alone = iter(range(-2, -len(of_id) - 3, -1))
        found = [of_id[row["id"]] for row in rows_of(corpus)]
        return [next(alone) if number == -1 else number for number in found]

    return run


def rows_in(*folders: Path) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl")):
            yield from rows_of(path)


def runs_of(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + WORDS]) for start in range(max(len(words) - WORDS + 1, 1))}


def datasketch() -> Way:
    from datasketch import MinHash, MinHashLSH

    def run(corpus: Path, work: Path, arguments: argparse.Namespace) -> list[int]:
        index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        signatures = []
        pairs = []
        for number, row in enumerate(rows_of(corpus)):
            signature = MinHash(num_perm=BANDS * ROWS)
            signature.update_batch([run.encode() for run in runs_of(row["text"])])
            pairs += [(number, other) for other in index.query(signature) if signature.jaccard(signatures[other]) >= THRESHOLD]
            index.insert(number, signature)
            signatures.append(signature)
        cluster = components(len(signatures), pairs)
        write_kept(corpus, work, cluster)
        return cluster

    return run


def rensa() -> Way:
    from rensa import RMinHash, RMinHashLSH

    def run(corpus: Path, work: Path, arguments: argparse.Namespace) -> list[int]:
        signatures: list[Any] = []
        pending: list[list[str]] = []
        for row in rows_of(corpus):
            pending.append(list(runs_of(row["text"])))
            if len(pending) == 1000:
                signatures += RMinHash.from_token_sets(pending, BANDS * ROWS, 42)
                pending = []
        signatures += RMinHash.from_token_sets(pending, BANDS * ROWS, 42) if pending else []
        index = RMinHashLSH(THRESHOLD, BANDS * ROWS, BANDS)
        pairs = []
        for number, signature in enumerate(signatures):
            pairs += [(number, other) for other in index.query(signature) if signature.jaccard(signatures[other]) >= THRESHOLD]
            index.insert(number, signature)
        cluster = components(len(signatures), pairs)
        write_kept(corpus, work, cluster)
        return cluster

    return run


def curve(arguments: argparse.Namespace) -> None:
    """Pairs of documents with so many edits that their similarities lie evenly, and nothing else in common."""
    import numpy as np

    from llmkit.core.interfaces.deduplicator import Ragged
    from llmkit.core.interfaces.source import Document

    rng = random.Random(0)
    deduplicator = made(None)
    texts: list[str] = []
    for _ in range(arguments.documents // 2):
        words = [f"w{rng.randrange(10**9)}" for _ in range(300)]
        copy = list(words)
        for place in rng.sample(range(300), int(40 * rng.random() ** 1.5)):
            copy[place] = f"w{rng.randrange(10**9)}"
        texts += [" ".join(words), " ".join(copy)]
    rows = deduplicator.sketch([Document("", text) for text in texts])
    starts = np.cumsum([0, *map(len, rows)])
    keeper = deduplicator.resolve(Ragged(np.concatenate(rows), starts), np.ones(len(texts), np.int64)).keeper
    similarity = np.array([jaccard(texts[number], texts[number + 1]) for number in range(0, len(texts), 2)])
    found = keeper[1::2] == keeper[::2]
    theory = np.array([deduplicator.match_rate(one) for one in similarity])
    points = []
    print(f"{'similarity':>12} {'pairs':>6} {'found':>7} {'theory':>7} {'error':>6} {'deviations':>10}")
    for low in np.arange(0.3, 1, 0.05):
        here = (similarity >= low) & (similarity < low + 0.05)
        n = int(here.sum())
        if not n:
            continue
        rate, expected = float(found[here].mean()), float(theory[here].mean())
        error = float(np.sqrt((theory[here] * (1 - theory[here])).sum()) / n)
        points.append((float(similarity[here].mean()), rate, error))
        print(f"{low:5.2f} to {low + 0.05:.2f} {n:6} {rate:7.4f} {expected:7.4f} {error:6.4f} {(rate - expected) / max(error, 1e-9):10.1f}")
    plot(points, deduplicator.match_rate, arguments.curve)


def jaccard(one: str, other: str) -> float:
    first, second = runs_of(one), runs_of(other)
    return len(first & second) / len(first | second)


def plot(points: list[tuple[float, float, float]], theory: Callable[[float], float], path: Path) -> None:
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).add_subplot()
    steps = [step / 200 for step in range(201)]
    axes.plot(steps, [theory(step) for step in steps], label="1 - (1 - s^8)^14")
    similarity, rate, error = zip(*points, strict=True)
    axes.errorbar(similarity, rate, [2 * one for one in error], fmt="o", label="measured, 2 deviations")
    axes.set(xlabel="Jaccard similarity s of two documents' word 5-grams", ylabel="found")
    axes.legend()
    figure.savefig(path)


WAYS: dict[str, Callable[[], Way]] = {
    "llmkit": llmkit(THRESHOLD),
    "llmkit unverified": llmkit(None),
    "datatrove": datatrove,
    "datasketch": datasketch,
    "rensa": rensa,
}

if __name__ == "__main__":
    main()
