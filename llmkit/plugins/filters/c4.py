"""The rules of C4."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from llmkit.core.interfaces.filter import Drop, Filter, Limit
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import C4Params
from llmkit.plugins.filters.words import sentences

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
TERMINAL = (".", "?", "!", '"', "'")
ELLIPSIS = "..."
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
LOREM_IPSUM, CURLY_BRACKET = "lorem_ipsum", "curly_bracket"


class C4(Filter):
    """Raffel et al., Exploring the Limits of Transfer Learning (arXiv 1910.10683), section 2.2, with what its published code does besides.

    Each line is stripped, and goes where a rule says so; the rules are asked in this order:

        1  a word of more than 1,000 characters
        2  (citations such as `[3]`, `[edit]` are cut out of the line)
        3  it ends in none of . ? ! " ' or ends in three dots
        4  it has fewer than 3 words
        5  it says `lorem ipsum`: the whole document is dropped
        6  it says `javascript`, in any case
        7  it has a `{`: the whole document is dropped
        8  it says `privacy policy`, `terms of use`, `uses cookies` or the like, in any case

    The document is what is left of its lines. It is dropped where that has fewer than 5 sentences. The list of bad words is a
    filter of its own, `word_list`; so is the language, `language`; that no three sentences come twice is a deduplicator's work.
    """

    params: C4Params

    def apply(self, document: Document) -> Document | Drop:
        kept: list[str] = []
        for line, fault in self._lines(document.text):
            if fault:
                return Drop(fault, 1, 0)
            kept.append(line)
        least = self.params.min_sentences
        number = self._sentences(kept, least)
        if number < least:
            return Drop("min_sentences", number, least)
        text = "\n".join(kept).strip()
        return document if text == document.text else replace(document, text=text)

    def measure(self, document: Document) -> Mapping[str, float]:
        kept: list[str] = []
        faults = {LOREM_IPSUM: 0, CURLY_BRACKET: 0}
        for line, fault in self._lines(document.text):
            if fault:
                faults[fault] += 1
            else:
                kept.append(line)
        return {"sentences": self._sentences(kept), "lorem_ipsum_lines": faults[LOREM_IPSUM], "curly_bracket_lines": faults[CURLY_BRACKET]}

    def limits(self) -> Sequence[Limit]:
        params = self.params
        limits = (
            Limit(LOREM_IPSUM, "lorem_ipsum_lines", most=0) if params.lorem_ipsum else None,
            Limit(CURLY_BRACKET, "curly_bracket_lines", most=0) if params.curly_bracket else None,
            Limit("min_sentences", "sentences", least=params.min_sentences),
        )
        return tuple(limit for limit in limits if limit is not None)

    def _sentences(self, lines: Sequence[str], enough: int | None = None) -> int:
        """How many there are; where `enough` is given, no more are counted than that."""
        if enough is not None and len(lines) >= enough:
            return len(lines)
        return sum(map(sentences, lines))

    def _lines(self, text: str) -> Iterator[tuple[str, str]]:
        """Every line that stays, and every line for which the document goes, with the parameter that says so."""
        params = self.params
        cites = params.citations and "[" in text
        lowered = (CITATION.sub("", text) if cites else text).lower()
        lorem = params.lorem_ipsum and "lorem ipsum" in lowered
        javascript = params.javascript and "javascript" in lowered
        bracket = params.curly_bracket and "{" in text
        policies = [phrase for phrase in POLICIES if phrase in lowered] if params.policy else []
        asks = lorem or javascript or bracket or bool(policies)
        for raw in text.splitlines():
            line = raw.strip()
            few = len(line.split(None, params.min_line_words)) < params.min_line_words
            if len(line) > params.max_word_length and self._has_long_word(line):
                continue
            if cites:
                line = CITATION.sub("", line)
            if params.terminal_punctuation and (not line.endswith(TERMINAL) or line.endswith(ELLIPSIS)):
                continue
            if few:
                continue
            low = line.lower() if asks else ""
            if lorem and "lorem ipsum" in low:
                yield line, LOREM_IPSUM
            elif javascript and "javascript" in low:
                continue
            elif bracket and "{" in line:
                yield line, CURLY_BRACKET
            elif policies and any(phrase in low for phrase in policies):
                continue
            else:
                yield line, ""

    def _has_long_word(self, line: str) -> bool:
        return max(map(len, line.split())) > self.params.max_word_length
