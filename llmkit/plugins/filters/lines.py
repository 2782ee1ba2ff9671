"""Lines that are no part of the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import LinesParams
from llmkit.plugins.filters.thresholds import share
from llmkit.plugins.filters.words import TERMINAL

COUNTER = re.compile(
    r"\W*+\d[\d.,]*+\s?[km]?\s+(?:likes?|views?|comments?|repl(?:y|ies)|shares?|votes?|points?|followers?|subscribers?|reviews?|ratings?|downloads?|photos?)\W*+",
    re.IGNORECASE,
)
CLOSING = "\"'”’)]»"  # noqa: RUF001
GAPS = re.compile(r"\n{3,}")


class Lines(Filter):
    """Line-wise corrections after RefinedWeb (Penedo et al., arXiv 2306.01116, appendix G.2): what surrounds the text of a page goes.

    A line goes, white space at its ends aside, where it

        has fewer than `min_words` words or `min_characters` characters
        is for more than `max_uppercase` of its letters upper case, in words of two letters and more
        has no letter (`numbers`), or counts something (`counters`): `3 likes`
        ends no sentence (`terminal_punctuation`)
        has at most `boilerplate_words` words and one of `boilerplate` in it: `sign in`, `read more...`
        was there before (`duplicates`)

    Blank lines part paragraphs and stay, no two in a row where something went. `removed` is the part of the words that went. The
    paper gives kinds and examples; the patterns are ours. It is made for pages of prose: of code and of tables it would take half,
    so limit it by `sources`.
    """

    params: LinesParams

    def apply(self, document: Document) -> Document | Drop:
        kept, removed = self._sorted_out(document.text)
        most = self.params.max_removed
        if most is not None and removed > most:
            return Drop("max_removed", removed, most)
        if removed == 0:
            return document
        return replace(document, text=GAPS.sub("\n\n", "\n".join(kept)).strip("\n"))

    def measure(self, document: Document) -> Mapping[str, float]:
        return {"removed": self._sorted_out(document.text)[1]}

    def limits(self) -> Sequence[Limit]:
        most = self.params.max_removed
        return () if most is None else (Limit("max_removed", "removed", most=most),)

    def _sorted_out(self, text: str) -> tuple[list[str], float]:
        """The lines that stay, and the part of the words that goes."""
        kept: list[str] = []
        seen: set[str] = set()
        words = gone = 0
        for line in text.split("\n"):
            stripped = line.strip()
            number = len(stripped.split())
            words += number
            if stripped and (stripped in seen or self._goes(stripped, number)):
                gone += number
                continue
            kept.append(line)
            if self.params.duplicates and stripped:
                seen.add(stripped)
        return kept, share(gone, words)

    def _goes(self, line: str, words: int) -> bool:
        params = self.params
        if words < params.min_words or len(line) < params.min_characters:
            return True
        if params.terminal_punctuation and line.rstrip(CLOSING)[-1:] not in TERMINAL:
            return True
        if words <= params.boilerplate_words and any(pattern.search(line) for pattern in self._boilerplate):
            return True
        if params.counters and line[-1:] != "." and COUNTER.fullmatch(line):
            return True
        letters = sum(map(str.isalpha, line))
        if params.numbers and not letters:
            return True
        return params.max_uppercase is not None and sum(map(str.isupper, line)) > params.max_uppercase * letters

    @cached_property
    def _boilerplate(self) -> Sequence[re.Pattern[str]]:
        return [re.compile(pattern, re.IGNORECASE) for pattern in self.params.boilerplate]
