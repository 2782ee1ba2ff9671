"""datatrove's filters over documents from a file: what `filters.py` starts in the peer's environment. It knows nothing of llmkit's.

    python filters_peer.py DOCUMENTS FATES [FILTER ...]

DOCUMENTS is a JSON list of texts. FATES is written as JSON: for each filter, what became of each document, and the seconds it took.
Each filter sees every document as it was read; `all` is Gopher's two, C4's and FineWeb's one after the other, as a pipeline has them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.c4_filters import C4BadWordsFilter
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.utils.text import split_into_sentences, split_into_words

FILTERS: dict[str, Callable[[], Any]] = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}
PIPELINE = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


def fate(filters: Iterable[Any], text: str) -> dict[str, str]:
    """`{"dropped": reason}` or `{"text": what it is now}`."""
    document = Document(text=text, id="")
    for one in filters:
        kept = one.filter(document)
        kept, reason = kept if isinstance(kept, tuple) else (kept, "dropped")
        if not kept:
            return {"dropped": reason}
    return {"text": document.text}


def measured(name: str, texts: list[str]) -> dict[str, Any]:
    """The fates, and the seconds that they took, without those of loading what splits words."""
    filters = [FILTERS[one]() for one in (PIPELINE if name == "all" else [name])]
    split_into_words("Loaded before the clock starts.")
    start = time.perf_counter()
    fates = [fate(filters, text) for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


def normalised(texts: list[str]) -> dict[str, Any]:
    """As `measured`, of the formatter that mends text with ftfy."""
    formatter = FTFYFormatter()
    formatter.format("Loaded.")
    start = time.perf_counter()
    fates = [{"text": formatter.format(text)} for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


def word_list(texts: list[str], path: str) -> dict[str, Any]:
    """As `measured`, of C4's filter of bad words, with its list read from a file here rather than fetched."""
    import datatrove.pipeline.filters.c4_filters as module

    module.cached_asset_path_or_download = lambda *_, **__: path
    module._BADWORDS_ALLOWLIST = {}
    bad_words = C4BadWordsFilter()
    bad_words.filter(Document(text="Loaded.", id=""))
    start = time.perf_counter()
    fates = [fate([bad_words], text) for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


def cut(texts: list[str]) -> dict[str, Any]:
    """Not what a filter makes of them, but what the filters count: the words."""
    start = time.perf_counter()
    fates = [{"text": " ".join(split_into_words(text))} for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


def sentences(texts: list[str]) -> dict[str, Any]:
    """As `cut`, the number of sentences of the lines, as C4's rules count them."""
    start = time.perf_counter()
    fates = [{"text": str(sum(len(split_into_sentences(line.strip())) for line in text.splitlines() if line.strip()))} for text in texts]
    return {"seconds": time.perf_counter() - start, "fates": fates}


OTHERS = {"words": cut, "sentences": sentences, "normalise": normalised}


def main() -> None:
    """Every filter that is named, in order; `word_list=PATH` takes its list from a file."""
    documents, out, *names = sys.argv[1:]
    with open(documents, encoding="utf-8") as file:
        texts = json.load(file)
    found = {}
    for name in names:
        kind, _, path = name.partition("=")
        found[kind] = word_list(texts, path) if path else OTHERS[kind](texts) if kind in OTHERS else measured(kind, texts)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
