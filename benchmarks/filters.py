"""Filters beside datatrove's, document for document and second for second, in one run.

    python -m benchmarks.filters --peer peer/bin/python              agreement, then speed
    python -m benchmarks.filters --peer peer/bin/python --rounds 5   more rounds of the clock
    python -m benchmarks.filters --peer peer/bin/python --show 20    more of the documents that the two disagree on

The peer's environment is its own: `python -m venv peer && peer/bin/pip install datatrove spacy ftfy`. Documents are real and mixed
(`filter_corpus.py`), read from `../shared/data` unless `--data` says otherwise; `filters_peer.py` is what runs in the peer's environment.

Agreement: each filter sees every document as it was read, and two fates are the same where both drop for the same reason, or both keep the
same text. Speed: one process each, one thread, in turns; what is loaded first is not counted. `all` is a pipeline of the four filters,
where what one drops the next does not see. Ours begins each round in a new process: no words are known from the round before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.filter_corpus import Named, corpus
from llmkit.core.interfaces.filter import Drop, Filter
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import COMPONENTS
from llmkit.plugins.filters.words import sentences, words

HERE = Path(__file__).parent
PIPELINE = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
COUNTED = ("words", "sentences")
NAMES = (*PIPELINE, "word_list", "normalise", *COUNTED)
DATA = HERE.parent.parent / "shared" / "data"
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "word_list": {"words": "wordlists/naughty_words_en.txt"},
    # The peer's formatter mends with ftfy and does nothing else.
    "normalise": {"unicode": None, "whitespace": False, "control_characters": False},
}
REASONS = {
    "gopher_short_doc": "min_words",
    "gopher_long_doc": "max_words",
    "gopher_below_avg_threshold": "min_word_length",
    "gopher_above_avg_threshold": "max_word_length",
    "gopher_too_many_hashes": "max_symbol_ratio",
    "gopher_too_many_ellipsis": "max_symbol_ratio",
    "gopher_too_many_bullets": "max_bullet_lines",
    "gopher_too_many_end_ellipsis": "max_ellipsis_lines",
    "gopher_below_alpha_threshold": "min_alphabetic",
    "gopher_enough_stop_words": "min_stop_words",
    "dup_para_frac": "max_duplicate_paragraphs",
    "dup_para_char_frac": "max_duplicate_paragraph_characters",
    "dup_line_frac": "max_duplicate_lines",
    "dup_line_char_frac": "max_duplicate_line_characters",
    **{f"top_{n}_gram": f"max_top_{n}_gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"max_duplicate_{n}_grams" for n in range(5, 11)},
    "too_few_sentences": "min_sentences",
    "line_punct_ratio": "min_punctuated_lines",
    "short_line_ratio": "max_short_lines",
    "char_dup_ratio": "max_duplicate_line_characters",
    "list_ratio": "max_newlines_per_word",
    "document_removed_with_badwords": "max_count",
}
"""What datatrove calls a reason -> the parameter that says so here."""

Fate = Mapping[str, str]


def ours(name: str, texts: Sequence[str], data: Path) -> dict[str, Any]:
    """As `filters_peer.py` does it: the fates, and the seconds that they took."""
    fate = _counted(name) if name in COUNTED else _filtered(name, data)
    fate("Loaded before the clock starts.")
    start = time.perf_counter()
    fates = [fate(text) for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


def _counted(name: str) -> Callable[[str], Fate]:
    """What the filters count: the words themselves, and how many sentences the lines have."""
    if name == "words":
        return lambda text: {"text": " ".join(words(text))}
    return lambda text: {"text": str(sum(sentences(line.strip()) for line in text.splitlines() if line.strip()))}


def _filtered(name: str, data: Path) -> Callable[[str], Fate]:
    filters = [_filter(one, data) for one in (PIPELINE if name == "all" else [name])]
    return lambda text: _fate(filters, text)


def _filter(name: str, data: Path) -> Filter:
    component = next(component for component in COMPONENTS if component.name == name)
    params = dict(PARAMS.get(name, {}))
    if "words" in params:
        params["words"] = str(data / params["words"])
    made: Filter = component.resolve()(component.params.model_validate(params))
    return made


def _fate(filters: Sequence[Filter], text: str) -> Fate:
    document = Document("", text)
    for one in filters:
        answer = one.apply(document)
        if isinstance(answer, Drop):
            return {"dropped": answer.reason}
        document = answer
    return {"text": document.text}


def agreement(name: str, documents: Sequence[Named], mine: Sequence[Fate], theirs: Sequence[Fate], show: int) -> None:
    """A row of the table; below it every pair of fates that differ with their number, and some of the documents."""
    theirs = [{"dropped": REASONS.get(fate["dropped"], fate["dropped"])} if "dropped" in fate else fate for fate in theirs]
    verdicts = sum(("dropped" in one) == ("dropped" in other) for one, other in zip(mine, theirs))
    differing = [place for place, (one, other) in enumerate(zip(mine, theirs)) if one != other]
    dropped = [sum("dropped" in fate for fate in fates) for fates in (mine, theirs)]
    print(f"| {name} | {len(mine):,} | {dropped[0]:,} | {dropped[1]:,} | {verdicts:,} | {len(mine) - len(differing):,} |")
    kinds = Counter((documents[place][0], *_words(mine[place]), *_words(theirs[place])) for place in differing)
    for (source, one, other), number in kinds.most_common():
        print(f"    {number} of {source}: here {one}, there {other}", file=sys.stderr)
    for place in differing[:show]:
        print(f"    #{place} {documents[place][1][:80]!r}", file=sys.stderr)


def _words(fate: Fate) -> Iterator[str]:
    yield f"dropped for {fate['dropped']}" if "dropped" in fate else "kept"


def run(command: Sequence[str | Path]) -> None:
    """A process of its own, with one thread."""
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def both(args: argparse.Namespace, documents: Sequence[Named], names: Sequence[str], folder: Path) -> tuple[Any, Any]:
    """What either makes of the documents, one after the other."""
    written, mine, theirs = folder / "documents.json", folder / "ours.json", folder / "theirs.json"
    written.write_text(json.dumps([text for _, text in documents]))
    run([sys.executable, "-m", "benchmarks.filters", "--ours", mine, "--documents", written, "--data", args.data, *names])
    bad = args.data / str(PARAMS["word_list"]["words"])
    run([args.peer, HERE / "filters_peer.py", written, theirs, *(f"{name}={bad}" if name == "word_list" else name for name in names)])
    return json.loads(mine.read_text()), json.loads(theirs.read_text())


def main() -> None:
    """Agreement of every filter, then the clock."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES), help="filters; all of them unless given")
    parser.add_argument("--peer", type=Path, help="the Python of an environment with datatrove")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3, help="of the clock; none for agreement alone")
    parser.add_argument("--every", type=int, default=4, help="the clock takes every so many-th document")
    parser.add_argument("--clock-alone", action="store_true", help="leave out agreement")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--documents", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        texts = json.loads(args.documents.read_text())
        args.ours.write_text(json.dumps({name: ours(name, texts, args.data) for name in args.names}))
        return
    documents = corpus(args.data)
    sources = dict(Counter(source for source, _ in documents))
    print(f"{len(documents):,} documents, {sum(len(text) for _, text in documents):,} characters: {sources}")
    with TemporaryDirectory() as place:
        if not args.clock_alone:
            compare(args, documents, Path(place))
        if args.rounds:
            clock(args, documents[:: args.every], Path(place))


def compare(args: argparse.Namespace, documents: Sequence[Named], folder: Path) -> None:
    """The table of agreement."""
    print("| filter | documents | dropped here | there | same verdict | same reason and text |\n|---|---|---|---|---|---|")
    mine, theirs = both(args, documents, args.names, folder)
    for name in args.names:
        agreement(name, documents, mine[name]["fates"], theirs[name]["fates"], args.show)


def clock(args: argparse.Namespace, documents: Sequence[Named], folder: Path) -> None:
    """The table of speed, of rounds in which the two take turns."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in (*args.names, "all")}
    for _, name in product(range(args.rounds), seconds):
        mine, theirs = both(args, documents, [name], folder)
        seconds[name].append((mine[name]["seconds"], theirs[name]["seconds"]))
    print(f"{len(documents):,} documents\n| filter | documents a second here | there | ratio |\n|---|---|---|---|")
    for name, rounds in seconds.items():
        here, there = ([len(documents) / value for value in side] for side in zip(*rounds))
        cells = " | ".join(f"{median(side):,.0f} ({min(side):,.0f} to {max(side):,.0f})" for side in (here, there))
        print(f"| {name} | {cells} | {median(here) / median(there):.1f} |")


if __name__ == "__main__":
    main()
