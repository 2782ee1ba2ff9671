"""Decontamination: what a model is going to be asked is not to be trained on."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.learned_components import DecontaminateParams
from llmkit.plugins.filters.needles import Haystack, Hit, Needles, gathered, load, needles_of, save

ITEMS = "items.json"
HELD_OUT = "holdout:"
"""How the name of a held-out document begins (`Filter.learn`)."""


@dataclass(frozen=True)
class _Found:
    """What a document has of the references.

    share           the largest part of an item that it has
    held_out_share  the largest part of a held-out document
    name            of what it has too much of, and most of; empty where it may stay
    value, limit    how much that is, and how much it may be
    spans           where the runs of all that it has too much of lie, in bytes of its folded text
    """

    share: float = 0.0
    held_out_share: float = 0.0
    name: str = ""
    value: float = 0.0
    limit: float = 0.0
    spans: tuple[tuple[int, int], ...] = ()


class Decontaminate(Filter):
    """Drops a document that has a run of `n` words in common with an item (Brown et al. 2020, arXiv 2005.14165, appendix C), or cuts the
    run out.

    Both are compared as letters and digits alone: case, accents, punctuation and spaces are taken away first, from a document all of
    them, so that `New-York`, `new york` and `NEWYORK` are the same, and so is an item whose spaces were lost. Where a word begins is
    decided by the item; of writing that has no spaces, two characters (Chinese, Japanese) or four (Thai, Khmer, ...) count as a word.

        share = the item's runs that the document has / the item's runs

    A document goes where the share of an item is above `most`, or that of a held-out document above `most_held_out`; the reason is
    `evaluator:item` or `holdout:document`, so that reasons are grouped by what stands before the first colon, and the value is the
    share. An item shorter than a run is one run.
    """

    learns = True
    reads_references = True
    params: DecontaminateParams

    def __init__(self, params: DecontaminateParams) -> None:
        super().__init__(params)
        self._haystack = Haystack([])
        self._names: list[str] = []
        self._runs: NDArray[np.int64] = np.zeros(0, np.int64)
        self._held_out: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def apply(self, document: Document) -> Document | Drop:
        return self.apply_batch([document])[0]

    def apply_batch(self, documents: Sequence[Document]) -> list[Document | Drop]:
        return [self._fate(document, found) for document, found in zip(documents, self._search(documents), strict=True)]

    def measure(self, document: Document) -> Mapping[str, float]:
        found = self._search([document])[0]
        return {"share": found.share, "held_out_share": found.held_out_share}

    def limits(self) -> tuple[Limit, ...]:
        if self.params.policy == "cut":
            return ()
        return (Limit("most", "share", most=self.params.most), Limit("most_held_out", "held_out_share", most=self.params.most_held_out))

    def learn(self, directory: Path, references: Iterable[Document]) -> dict[str, Any]:
        """Write the runs of all references.

        Figures: `items` that are looked for and their `runs`; what is not looked for: items that are `repeated`, `too_short`, or
        have `only_common_runs`; `common_runs`.
        """
        names: list[str] = []
        parts: list[Needles] = []
        seen: set[bytes] = set()
        repeated = too_short = 0
        for reference in references:
            data, starts, ends = self._item(reference.text)
            digest = hashlib.sha256(data.tobytes()).digest()[:16]
            repeated += digest in seen
            too_short += not len(starts)
            if len(starts) and digest not in seen:
                parts += needles_of(data, starts, ends, len(names))
                names.append(f"{reference.source}:{reference.id}")
            seen.add(digest)
        classes, common = gathered(parts, self.params.common)
        runs = np.zeros(len(names), np.int64)
        for needles in classes:
            runs += np.bincount(needles.owners, minlength=len(names))
        save(classes, directory)
        (directory / ITEMS).write_text(json.dumps({"names": names, "runs": runs.tolist()}), encoding="utf-8")
        return {
            "items": int((runs > 0).sum()),
            "runs": int(runs.sum()),
            "repeated": repeated,
            "too_short": too_short,
            "only_common_runs": int((runs == 0).sum()),
            "common_runs": common,
        }

    def load(self, directory: Path) -> None:
        items = json.loads((directory / ITEMS).read_text(encoding="utf-8"))
        self._names, self._runs = items["names"], np.array(items["runs"], np.int64)
        self._held_out = np.array([name.startswith(HELD_OUT) for name in self._names], np.bool_)
        self._haystack = Haystack(load(directory))

    def _item(self, text: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """An item's letters and digits, and where its runs start and end in them."""
        words = [word for word in (folded(word) for word in _WORD.findall(text)) if word]
        data = np.frombuffer(b"".join(words), np.uint8)
        edges = np.array([0, *accumulate(map(len, words))])
        by_words = np.arange(len(words)) + self.params.n
        by_length = np.searchsorted(edges, edges[:-1] + self.params.shortest)
        last = np.maximum(by_words, by_length)
        runs = np.flatnonzero(last <= len(words))
        if len(runs):
            return data, edges[runs], edges[last[runs]]
        whole = np.zeros(int(len(data) >= self.params.shortest), np.int64)
        return data, whole, whole + len(data)

    def _search(self, documents: Sequence[Document]) -> list[_Found]:
        texts = [folded(document.text) for document in documents]
        edges = np.array([0, *accumulate(len(text) + 1 for text in texts)])
        hit = self._haystack.find(np.frombuffer(_APART.join(texts), np.uint8))
        found = [_Found()] * len(documents)
        which = np.searchsorted(edges, hit.starts, "right") - 1
        for index in np.unique(which).tolist():
            own = which == index
            found[index] = self._judged(Hit(hit.starts[own] - edges[index], *(part[own] for part in hit[1:])))
        return found

    def _judged(self, hit: Hit) -> _Found:
        _, first = np.unique(hit.needles, return_index=True)
        items, counts = np.unique(hit.owners[first], return_counts=True)
        shares, held_out = counts / self._runs[items], self._held_out[items]
        limits = np.where(held_out, self.params.most_held_out, self.params.most)
        share, held_out_share = (float(shares[side].max(initial=0)) for side in (~held_out, held_out))
        beyond = shares > limits
        if not beyond.any():
            return _Found(share, held_out_share)
        # Of items that are all there, one of which may be part of another, the longest is named.
        worst = np.lexsort((self._runs[items], np.where(beyond, shares, 0)))[-1]
        own = np.isin(hit.owners, items[beyond])
        spans = {(start, start + length) for start, length in zip(hit.starts[own].tolist(), hit.lengths[own].tolist(), strict=True)}
        name, value, limit = self._names[items[worst]], float(shares[worst]), float(limits[worst])
        return _Found(share, held_out_share, name, value, limit, tuple(sorted(spans)))

    def _fate(self, document: Document, found: _Found) -> Document | Drop:
        if not found.name:
            return document
        if self.params.policy == "drop":
            return Drop(found.name, found.value, found.limit)
        return replace(document, text=self._cut(document.text, found.spans), meta={**document.meta, "decontaminated": found.name})

    def _cut(self, text: str, spans: Iterable[tuple[int, int]]) -> str:
        """What is left between the spans and their margins, where it is longer than a margin."""
        margin = self.params.margin
        edges = np.array([0, *accumulate(len(folded(character)) for character in text)])
        kept: list[str] = []
        place = 0
        for start, stop in spans:
            first = int(np.searchsorted(edges, start, "right")) - 1
            kept.append(text[place : max(first - margin, place)])
            place = max(place, int(np.searchsorted(edges, stop)) + margin)
        pieces = [piece.strip() for piece in [*kept, text[place:]]]
        return "\n\n".join(piece for piece in pieces if len(piece) > margin)


class _Folding(dict[int, str]):
    """A character -> its letters and digits, in small letters and without accents; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        self[code] = "".join(character for character in apart if character.isalnum())
        return self[code]


_FOLDING = _Folding()
_SMALL = bytes(range(256)).lower()
_NEITHER = bytes(code for code in range(128) if not chr(code).isalnum())
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_APART = b"\xff"
"""Between documents that are searched together: no byte of UTF-8."""

_TWO = "\u2e80-\u2fdf\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_FOUR = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(f"[{_TWO}]{{1,2}}|[{_FOUR}]{{1,4}}|[^\\W_{_TWO}{_FOUR}]+")


def folded(text: str) -> bytes:
    """Letters and digits alone, in small letters, without accents, as UTF-8: a function of each character by itself."""
    small = text.encode("utf-8", "replace").translate(_SMALL, _NEITHER)
    return small if small.isascii() else _BEYOND_ASCII.sub(_folded_run, small)


def _folded_run(found: re.Match[bytes]) -> bytes:
    return found[0].decode().translate(_FOLDING).encode()
