"""Filters that learn, look up or redact, on labelled and on real text.

    python -m benchmarks.quality                       all four, on ../shared/data
    python -m benchmarks.quality quality toxicity      some of them
    python -m benchmarks.quality --data DIR --json figures.json

quality        cross-validation on DCLM's human labels, five times with other folds, beside the majority and beside length alone; and
               learned from what annotators disagreed on, asked what they agreed on
toxicity       the same classifier cross-validated on the tweets of Davidson et al. (2017), beside alt-profanity-check, which has learned
               from them; and what either makes of old books and of Python's proposals, in passages of 40 words
pii            what is found in old books, where all that is found is wrong, and in Python's proposals, and megabytes a second
contamination  items of GSM8K and HellaSwag planted in books through changes of form; what is found in books and proposals as they are, and
               the speed

A standard error is over examples. Megabytes are of characters, on one thread. Phone numbers
of libphonenumber need `pip install phonenumbers`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import lzma
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters import pii
from llmkit.plugins.filters.classifier import Classifier, Fit, judged, learn
from llmkit.plugins.filters.decontaminate import Decontaminate
from llmkit.plugins.filters.hashed_ngrams import HashedNgrams
from llmkit.plugins.filters.learned_components import DecontaminateParams, PiiParams
from llmkit.plugins.filters.toxicity import Toxicity, ToxicityParams

DATA = Path(__file__).parents[2] / "shared" / "data"
FEATURES = HashedNgrams(4, 2, 18, 50_000)
C = 10.0
ROUNDS = 5
PASSAGE = 40
PLANTED = 2000
Row = dict[str, Any]


def quality(data: Path) -> Iterator[Row]:
    """The classifier on web text that people have judged."""
    agreed, majority = (labelled(data / f"dclm-quality/{name}_data.jsonl.gz") for name in ("agreement", "majority"))
    for name, (texts, labels) in {"agreement": agreed, "majority": majority}.items():
        yield {"labels": name, "n": len(texts), "by": "n-grams", **rounds(texts, labels)}
        yield {"labels": name, "n": len(texts), "by": "length alone", **by_length(texts, labels)}
    known = set(agreed[0])
    rest = [(text, label) for text, label in zip(*majority, strict=True) if text not in known]
    classifier, _ = learn(FEATURES, [text for text, _ in rest], np.array([label for _, label in rest]), Fit(C, 5, 0, 0.5, None))
    figures = judged(probabilities(classifier, agreed[0]), agreed[1], 0.5)
    yield {"labels": "agreement, learned from the rest", "n": len(agreed[0]), "by": "n-grams", **figure(asdict(figures))}
    texts = majority[0]
    yield {"megabytes_per_second": speed(texts, lambda text: classifier.probability(FEATURES, text))}


def toxicity(data: Path) -> Iterator[Row]:
    """Offensive language: tweets with labels, and text that has none."""
    with gzip.open(data / "toxicity-davidson/labeled_data.csv.gz") as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    texts, neither = [row["tweet"] for row in rows], np.array([row["class"] == "2" for row in rows])
    published = Toxicity(ToxicityParams(words=PASSAGE))
    yield {"labels": "tweets", "n": len(texts), "by": "n-grams", **rounds(texts, neither, 1)}
    theirs = 1 - np.asarray(published._probabilities(texts))
    yield {
        "labels": "tweets",
        "n": len(texts),
        "by": "alt-profanity-check, learned from them",
        **figure(asdict(judged(theirs, neither, 0.5))),
    }
    classifier, _ = learn(FEATURES, texts, neither, Fit(C, 5, 0, 0.5, None))
    for name, documents in {"books": books(data, 5), "proposals": proposals(data)}.items():
        passages = [passage for document in documents for passage in cut(document.text)][:20_000]
        ours, theirs = 1 - probabilities(classifier, passages), np.asarray(published._probabilities(passages))
        shares = {
            f"{who}_{least}": float((found >= least).mean()) for who, found in (("ours", ours), ("theirs", theirs)) for least in (0.5, 0.8)
        }
        dropped = sum(isinstance(published.apply(document), Drop) for document in documents)
        yield {"text": name, "passages": len(passages), "documents": len(documents), "dropped": dropped, **shares}
    yield {"megabytes_per_second": speed(documents, published.apply, lambda document: len(document.text))}


def personal(data: Path) -> Iterator[Row]:
    """What is found, with the first of it to look at."""
    yield from dialled()
    made = pii.Pii(PiiParams())
    kinds = {"email": pii.emails, "card": pii.cards, "ip": pii.addresses, "phone": pii.phones}
    for name, documents in {"books": books(data, 1), "proposals": proposals(data)}.items():
        megabytes = sum(len(document.text) for document in documents) / 1e6
        for kind, find in kinds.items():
            found = Counter(document.text[slice(*span)] for document in documents for span in find(document.text))
            yield {"text": name, "megabytes": round(megabytes, 1), "kind": kind, "found": found.total(), "first": [*found][:20]}
        yield {"text": name, "megabytes_per_second": speed(documents, made.apply, lambda document: len(document.text))}


def dialled() -> Iterator[Row]:
    """Example numbers of libphonenumber, fixed and mobile, as they are written for callers from abroad and, behind a word, at home."""
    try:
        import phonenumbers
    except ImportError:
        return
    made = pii.Pii(PiiParams())
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    found = (phonenumbers.example_number_for_type(region, kind) for region in sorted(phonenumbers.SUPPORTED_REGIONS) for kind in kinds)
    numbers = [number for number in found if number]
    for form, before in {"E164": "call", "INTERNATIONAL": "call", "NATIONAL": "Phone:"}.items():
        written = [phonenumbers.format_number(number, getattr(phonenumbers.PhoneNumberFormat, form)) for number in numbers]
        right = sum(made.apply(Document("", f"{before} {one}, please")).text == f"{before} <PHONE>, please" for one in written)
        yield {"numbers": form, "regions": len(phonenumbers.SUPPORTED_REGIONS), "written": len(written), "found": right}


def contamination(data: Path) -> Iterator[Row]:
    """Items planted, and items that are there already."""
    with gzip.open(data / "gsm8k/test.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    items = [Document(str(index), f"{row['question']} {row['answer']}", "gsm8k") for index, row in enumerate(rows)]
    with gzip.open(data / "eval-olmo/hellaswag-validation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    items += [Document(str(index), f"{row['ctx']} {row['endings'][int(row['label'])]}", "hellaswag") for index, row in enumerate(rows)]
    made = Decontaminate(DecontaminateParams())
    with TemporaryDirectory() as directory:
        start = time.perf_counter()
        figures = made.learn(Path(directory), items)
        yield {
            **figures,
            "seconds": round(time.perf_counter() - start, 1),
            "megabytes": sum(file.stat().st_size for file in Path(directory).iterdir()) / 1e6,
        }
        made.load(Path(directory))
        pages = [document.text[place : place + 4000] for document in books(data, 5) for place in range(0, 80_000, 4000)]
        rng = random.Random(0)
        planted = rng.sample(items, PLANTED)
        for name, change in CHANGES.items():
            drops = named = 0
            for item in planted:
                page = rng.choice(pages)
                found = made.apply(Document("page", page[:2000] + change(item.text, rng) + page[2000:]))
                drops += isinstance(found, Drop)
                named += isinstance(found, Drop) and found.reason == f"{item.source}:{item.id}"
            yield {"change": name, "planted": len(planted), "found": drops, "named": named}
        for name, documents in {"books": books(data, 1), "proposals": proposals(data)}.items():
            fates = [made.apply(document) for document in documents]
            yield {
                "text": name,
                "documents": len(documents),
                "dropped": sum(isinstance(fate, Drop) for fate in fates),
                "megabytes_per_second": speed(documents, made.apply, lambda document: len(document.text)),
            }


def _without_punctuation(text: str, rng: random.Random) -> str:
    return text.translate(str.maketrans("", "", string.punctuation))


def _random_case(text: str, rng: random.Random) -> str:
    return "".join(rng.choice((sign.lower(), sign.upper())) for sign in text)


def _random_spacing(text: str, rng: random.Random) -> str:
    return "".join(rng.choice(("", " ", "\n", "\t ")) if sign == " " else sign for sign in text)


def _half(text: str, rng: random.Random) -> str:
    words = text.split()
    length = max(len(words) // 2, 16)
    start = rng.randrange(max(len(words) - length, 0) + 1)
    return " ".join(words[start : start + length])


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda text, rng: text,
    "random case": _random_case,
    "no punctuation": _without_punctuation,
    "random spacing": _random_spacing,
    "all three": lambda text, rng: _random_case(_random_spacing(_without_punctuation(text, rng), rng), rng),
    "half of it, all three": lambda text, rng: _random_case(_random_spacing(_without_punctuation(_half(text, rng), rng), rng), rng),
}


def rounds(texts: Sequence[str], labels: Any, count: int = ROUNDS) -> Row:
    """Figures of cross-validation, the mean over choices of folds; standard errors are those of one."""
    all_figures = [asdict(learn(FEATURES, texts, labels, Fit(C, 5, seed, 0.5, None))[1]) for seed in range(count)]
    return figure({name: mean(figures[name] for figures in all_figures) for name in all_figures[0]})


def by_length(texts: Sequence[str], labels: Any) -> Row:
    """A regression on the logarithm of the length, with the same folds."""
    lengths = np.log([[len(text) + 1] for text in texts])
    found = [
        cross_val_predict(
            LogisticRegression(), lengths, labels, cv=StratifiedKFold(5, shuffle=True, random_state=seed), method="predict_proba"
        )[:, 1]
        for seed in range(ROUNDS)
    ]
    all_figures = [asdict(judged(one, labels, 0.5)) for one in found]
    return figure({name: mean(figures[name] for figures in all_figures) for name in all_figures[0]})


def figure(figures: Row) -> Row:
    """Those that are shown."""
    names = ("accuracy", "accuracy_stderr", "majority", "auc", "auc_stderr", "calibration_error")
    return {name: round(figures[name], 4) for name in names}


def probabilities(classifier: Classifier, texts: Sequence[str]) -> Any:
    return np.array([classifier.probability(FEATURES, text) for text in texts])


def speed(things: Sequence[Any], do: Callable[[Any], object], length: Callable[[Any], int] = len) -> float:
    """Megabytes a second, the best of three rounds."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for thing in things:
            do(thing)
        seconds.append(time.perf_counter() - start)
    return round(sum(map(length, things)) / min(seconds) / 1e6, 1)


def labelled(path: Path) -> tuple[list[str], Any]:
    """Texts and whether each is wanted."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], np.array([row["label"] == 1 for row in rows])


def books(data: Path, step: int) -> list[Document]:
    """Every so manieth of the books before 1900."""
    return read(data / "classic-books/classic-books-pre1900.jsonl.xz", step)


def proposals(data: Path) -> list[Document]:
    """Python's enhancement proposals."""
    return read(data / "peps/peps.jsonl.xz", 1)


def read(path: Path, step: int) -> list[Document]:
    """Every so manieth document of a file."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [Document(str(index), json.loads(line)["text"]) for index, line in enumerate(file) if index % step == 0]


def cut(text: str) -> Iterator[str]:
    """Passages."""
    words = text.split()
    return (" ".join(words[start : start + PASSAGE]) for start in range(0, len(words), PASSAGE))


PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "quality": quality,
    "toxicity": toxicity,
    "pii": personal,
    "contamination": contamination,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], help="which; all unless given")
    parser.add_argument("--data", type=Path, default=DATA, help="the directory with the labelled and the real text")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    figures: dict[str, list[Row]] = {}
    for name in given.parts or PARTS:
        print(f"\n{name}")
        for row in PARTS[name](given.data):
            figures.setdefault(name, []).append(row)
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
