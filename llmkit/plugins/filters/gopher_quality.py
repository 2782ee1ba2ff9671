"""The quality rules of Gopher."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from functools import cached_property

from llmkit.core.interfaces.filter import Limit
from llmkit.plugins.filters.rule_components import GopherQualityParams
from llmkit.plugins.filters.thresholds import ThresholdFilter, given, share
from llmkit.plugins.filters.words import TERMINAL, words

CONTROLS = frozenset(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
SYMBOLS = frozenset(string.punctuation) | TERMINAL | CONTROLS | frozenset("—”：％１〈━【「」，】；“《„’∶´（–～«〉》）、…►»")  # noqa: RUF001
"""What a word must have more than, to be counted; the full-width digit one is in datatrove's list as well."""
BULLETS = ("•", "-")
ELLIPSES = ("...", "…")


class GopherQuality(ThresholdFilter):
    """Rae et al., Scaling Language Models (arXiv 2112.11446), appendix A.1.1, by the definitions of datatrove.

    A document stays where

        words            those with a character that is no punctuation: 50 to 100,000 of them
        word_length      their mean length: 3 to 10 characters
        symbol_ratio     occurrences of `#`, or of `...` and `…`, whichever are more, over all words: at most 0.1
        bullet_lines     of lines, those that start with `•` or `-`: at most 0.9
        ellipsis_lines   of lines, those that end with `...` or `…`: at most 0.3
        alphabetic       of all words, punctuation included, those with a letter: at least 0.8
        stop_words       different words of `the be to of and that have with` in it, in this case: at least 2

    The paper asks a letter of 80% of the words and does not say what a word is; with punctuation among them, as datatrove counts,
    that is stricter.
    """

    params: GopherQualityParams

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return frozenset(self.params.stop_words)

    def statistics(self, text: str, exact: bool) -> Iterator[tuple[str, float]]:
        found = words(text)
        odd = [word for word in found if not word.isalpha()]
        symbols = [word for word in odd if SYMBOLS.issuperset(word)]
        proper = len(found) - len(symbols)
        yield "words", proper
        yield "word_length", share(sum(map(len, found)) - sum(map(len, symbols)), proper)
        hashes, ellipses = text.count("#"), text.count("...") + text.count("…")
        yield "symbol_ratio", share(max(hashes, ellipses), len(found))
        lines = text.splitlines()
        yield "bullet_lines", share(_starting(lines), len(lines))
        yield "ellipsis_lines", share(_ending(lines) if ellipses else 0, len(lines))
        without_letters = sum(not any(map(str.isalpha, word)) for word in odd)
        yield "alphabetic", share(len(found) - without_letters, len(found))
        yield "stop_words", len(self._stop_words.intersection(found))

    def limits(self) -> Sequence[Limit]:
        params = self.params
        return given(
            Limit("min_words", "words", least=params.min_words),
            Limit("max_words", "words", most=params.max_words),
            Limit("min_word_length", "word_length", least=params.min_word_length),
            Limit("max_word_length", "word_length", most=params.max_word_length),
            Limit("max_symbol_ratio", "symbol_ratio", most=params.max_symbol_ratio),
            Limit("max_bullet_lines", "bullet_lines", most=params.max_bullet_lines),
            Limit("max_ellipsis_lines", "ellipsis_lines", most=params.max_ellipsis_lines),
            Limit("min_alphabetic", "alphabetic", least=params.min_alphabetic),
            Limit("min_stop_words", "stop_words", least=params.min_stop_words),
        )


def _starting(lines: Sequence[str]) -> int:
    return sum(line.lstrip().startswith(BULLETS) for line in lines)


def _ending(lines: Sequence[str]) -> int:
    return sum(line.rstrip().endswith(ELLIPSES) for line in lines)
