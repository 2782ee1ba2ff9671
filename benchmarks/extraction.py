"""Extractors side by side on labelled pages: what of a page stays that should, what goes that should, how fast, with how much memory.

    python benchmarks/extraction.py PAGES.tar.xz             pages with gold.jsonl: strings that must stay (`with`), or go (`without`)
    python benchmarks/extraction.py --articles DIRECTORY     pages with ground-truth.json: the whole text of each article
    python benchmarks/extraction.py PAGES.tar.xz --rounds 9 --json figures.json

PAGES.tar.xz is of the form of trafilatura's own evaluation: a string that must stay and does is a true positive; that goes, a false
negative; one that must go and stays, a false positive. DIRECTORY is a copy of github.com/scrapinghub/article-extraction-benchmark,
whose score is by overlapping runs of four words. White space does not count. Intervals are of 95%, by bootstrap over pages. Each way is
a process of its own, which decodes all pages first; rounds alternate between the ways. Memory is the most that the process had resident
above what it had before the extractor was imported.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llmkit import catalog
from llmkit.core.interfaces.extractor import Extractor
from llmkit.core.kinds import Kind
from llmkit.plugins.sources.charset import page_text

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "resiliparse": ("resiliparse", {}),
    "resiliparse, everything": ("resiliparse", {"main_content": False}),
    "trafilatura": ("trafilatura", {}),
    "trafilatura, second opinions": ("trafilatura", {"fast": False}),
    "trafilatura, precision": ("trafilatura", {"favour": "precision"}),
    "trafilatura, recall": ("trafilatura", {"favour": "recall"}),
}
RUN = 4
"""Words of a run that is compared, in the score by whole articles."""
DRAWS = 2000


class Page(NamedTuple):
    """A page and what is known of it: strings, or the whole article."""

    html: str
    address: str
    stay: list[str]
    go: list[str]
    article: str | None


class Counts(NamedTuple):
    """Of one page: strings, or the parts of one page that its runs of words are."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="?", type=Path)
    parser.add_argument("--articles", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        work(options)
        return
    rows = measure(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    print("| extractor | precision | recall | F1 | accuracy | pages/s | MB |\n|---|---|---|---|---|---|---|")
    for row in rows:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
        low, high = row["interval"]
        print(
            f"| {row['way']} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} ({low:.3f} to {high:.3f}) | {accuracy} "
            f"| {row['speed']:.0f} ({row['slowest']:.0f} to {row['fastest']:.0f}) | {row['megabytes']:.0f} |"
        )


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All ways, each waiting in its process until it is its turn."""
    given = [str(options.pages)] if options.pages else ["--articles", str(options.articles)]
    workers = {
        way: subprocess.Popen([sys.executable, __file__, *given, "--way", way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way in WAYS
    }
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, worker in workers.items():
            speeds[way].append(float(asked(worker, "round")))
    rows = []
    for way, worker in workers.items():
        row = json.loads(asked(worker, "end"))
        worker.wait()
        told = {"speed": statistics.median(speeds[way]), "slowest": min(speeds[way]), "fastest": max(speeds[way])}
        rows.append({"way": way, **row, **told})
    return rows


def asked(worker: subprocess.Popen[str], question: str) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(question + "\n")
    worker.stdin.flush()
    return worker.stdout.readline()


def work(options: argparse.Namespace) -> None:
    """One way: a round when asked for, and at the end its figures."""
    name, params = WAYS[options.way]
    component = catalog().find(Kind.extractor, name)
    pages = labelled(options.pages) if options.pages else articles(options.articles)
    before = peak()
    extractor: Extractor = component.resolve()(component.params(**params))
    texts = extracted(extractor, pages)
    for question in sys.stdin:
        if question.strip() == "end":
            print(
                json.dumps({**figures([score(page, text) for page, text in zip(pages, texts)]), "megabytes": peak() - before}), flush=True
            )
            return
        begun = time.perf_counter()
        extracted(extractor, pages)
        print(len(pages) / (time.perf_counter() - begun), flush=True)


def extracted(extractor: Extractor, pages: Sequence[Page]) -> list[str]:
    return [extractor.extract(page.html, page.address) for page in pages]


def peak() -> float:
    """The most memory that was resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def labelled(path: Path) -> list[Page]:
    with tarfile.open(path) as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        data = {name: file.read() for name, file in files.items() if file is not None}
    gold = [json.loads(line) for line in data["gold.jsonl"].decode().splitlines()]
    return [Page(page_text(data[one["file"]]), one["url"], one["with"], one["without"], None) for one in gold]


def articles(directory: Path) -> list[Page]:
    truth = json.loads((directory / "ground-truth.json").read_text(encoding="utf-8"))
    pages = []
    for name, known in truth.items():
        html = page_text(gzip.decompress((directory / "html" / f"{name}.html.gz").read_bytes()))
        pages.append(Page(html, known.get("url", ""), [], [], known["articleBody"]))
    return pages


def score(page: Page, text: str) -> Counts:
    if page.article is not None:
        return score_runs(page.article, text)
    flat = " ".join(text.split())
    stay = [" ".join(string.split()) in flat for string in page.stay]
    go = [" ".join(string.split()) in flat for string in page.go]
    return Counts(sum(stay), sum(go), len(stay) - sum(stay), len(go) - sum(go))


def score_runs(article: str, text: str) -> Counts:
    """As article-extraction-benchmark has it: runs of four words, as often as they occur, as parts of all that are in either text."""
    wanted, found = runs(article), runs(text)
    common = (wanted & found).total()
    whole = max(common + (found - wanted).total() + (wanted - found).total(), 1)
    return Counts(common / whole, (found - wanted).total() / whole, (wanted - found).total() / whole)


def runs(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[index : index + RUN]) for index in range(max(1, len(words) - RUN + 1)))


def figures(counts: Sequence[Counts]) -> dict[str, Any]:
    whole = total(counts)
    drawn = random.Random(0)
    draws = sorted(f1(total(drawn.choices(counts, k=len(counts)))) for _ in range(DRAWS))
    right = whole.true_positive + whole.true_negative
    return {
        "precision": whole.true_positive / (whole.true_positive + whole.false_positive),
        "recall": whole.true_positive / (whole.true_positive + whole.false_negative),
        "f1": f1(whole),
        "interval": [draws[round(0.025 * DRAWS)], draws[round(0.975 * DRAWS) - 1]],
        "accuracy": right / sum(whole) if whole.true_negative else None,
        "pages": len(counts),
    }


def total(counts: Sequence[Counts]) -> Counts:
    return Counts(*(sum(column) for column in zip(*counts)))


def f1(counts: Counts) -> float:
    return 2 * counts.true_positive / (2 * counts.true_positive + counts.false_positive + counts.false_negative)


if __name__ == "__main__":
    main()
