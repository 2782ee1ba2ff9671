"""The repetition rules of Gopher."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import mul

from llmkit.core.interfaces.filter import Limit
from llmkit.plugins.filters.rule_components import GopherRepetitionParams
from llmkit.plugins.filters.thresholds import ThresholdFilter, given, share
from llmkit.plugins.filters.words import words

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")
TOP = range(2, 5)
DUPLICATED = range(5, 11)


class GopherRepetition(ThresholdFilter):
    """Rae et al., Scaling Language Models (arXiv 2112.11446), appendix A.1.1 and table A1, by the definitions of datatrove.

    A document stays where, of its characters (or of its paragraphs, or lines), at most so many are in

        duplicate_paragraphs, duplicate_lines      .30 of their number: those that were there before
        duplicate_paragraph_characters, ..._line_characters   .20
        top_2_gram, top_3_gram, top_4_gram         .20 .18 .16: every occurrence of the most frequent n words in a row
        duplicate_5_grams ... duplicate_10_grams   .15 .14 .13 .12 .11 .10: n words in a row that were there before

    The most frequent n-gram counts with one space between its words; of several that are as frequent, the first. Duplicated n-grams
    are found from left to right, and after one the search goes on behind it, so that none is counted twice; their characters are
    those of their words.
    """

    params: GopherRepetitionParams

    def statistics(self, text: str, exact: bool) -> Iterator[tuple[str, float]]:
        paragraphs = PARAGRAPHS.split(text.strip())
        number, characters = repeated(paragraphs)
        yield "duplicate_paragraphs", share(number, len(paragraphs))
        yield "duplicate_paragraph_characters", share(characters, len(text))
        lines = LINES.split(text)
        number, characters = repeated(lines)
        yield "duplicate_lines", share(number, len(lines))
        yield "duplicate_line_characters", share(characters, len(text))
        yield from self._of_words(words(text), len(text), exact)

    def limits(self) -> Sequence[Limit]:
        params = self.params
        return given(
            Limit("max_duplicate_paragraphs", "duplicate_paragraphs", most=params.max_duplicate_paragraphs),
            Limit("max_duplicate_paragraph_characters", "duplicate_paragraph_characters", most=params.max_duplicate_paragraph_characters),
            Limit("max_duplicate_lines", "duplicate_lines", most=params.max_duplicate_lines),
            Limit("max_duplicate_line_characters", "duplicate_line_characters", most=params.max_duplicate_line_characters),
            *(Limit(f"max_top_{n}_gram", f"top_{n}_gram", most=getattr(params, f"max_top_{n}_gram")) for n in TOP),
            *(
                Limit(f"max_duplicate_{n}_grams", f"duplicate_{n}_grams", most=getattr(params, f"max_duplicate_{n}_grams"))
                for n in DUPLICATED
            ),
        )

    def _of_words(self, found: Sequence[str], characters: int, exact: bool) -> Iterator[tuple[str, float]]:
        counts = Counter(found)
        for n in TOP:
            if exact or _at_most_top(counts, n) > self._allowed(f"top_{n}_gram") * characters:
                yield f"top_{n}_gram", share(top(found, n), characters)
        for n, again in zip(DUPLICATED, duplicated(found, DUPLICATED)):
            yield f"duplicate_{n}_grams", share(again, characters)

    def _allowed(self, statistic: str) -> float:
        limits = self._limits_on.get(statistic, ())
        return min((limit.most for limit in limits if limit.most is not None), default=float("inf"))


def repeated(parts: Sequence[str]) -> tuple[int, int]:
    """How many of these were there before, and how many characters they have."""
    if len(set(parts)) == len(parts):
        return 0, 0
    once = dict.fromkeys(parts)
    return len(parts) - len(once), sum(map(len, parts)) - sum(map(len, once))


def top(found: Sequence[str], n: int) -> int:
    """The characters of every occurrence of the most frequent n-gram, with a space between its words."""
    counts = Counter(_grams(found, n))
    if not counts:
        return 0
    gram, count = counts.most_common(1)[0]
    return (sum(map(len, gram)) + n - 1) * count


def duplicated(found: Sequence[str], sizes: range) -> Iterator[int]:
    """For each size n, the characters of words in n-grams that were there before, from left to right and none counted twice."""
    n = sizes[0]
    ends = list(accumulate(map(len, found), initial=0))
    grams: Sequence[Hashable] = list(_grams(found, n))
    repeats = _repeats(range(len(grams)), grams)
    yield _characters(repeats, n, ends)
    for n in sizes[1:]:
        # Only what is repeated can be the start of something longer that is.
        longer = [(place, first) for place, first in repeats if place + n <= len(found)]
        repeats = _repeats([place for place, _ in longer], [(first, found[place + n - 1]) for place, first in longer])
        yield _characters(repeats, n, ends)


def _repeats(places: Sequence[int], grams: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The place of every n-gram that comes more than once, with the first place that it comes at; by place."""
    first = dict(zip(reversed(grams), reversed(places)))
    if len(first) == len(grams):
        return []
    firsts = list(map(first.__getitem__, grams))
    repeated = {start for place, start in zip(places, firsts) if place != start}
    return [(place, start) for place, start in zip(places, firsts) if start in repeated]


def _characters(repeats: Iterable[tuple[int, int]], n: int, ends: Sequence[int]) -> int:
    """The characters of repeated n-grams, from left to right; not of those met for the first time, nor of what overlaps one counted."""
    characters = free = 0
    met: set[int] = set()
    for place, first in repeats:
        if place < free:
            continue
        if first in met:
            characters += ends[place + n] - ends[place]
            free = place + n
        else:
            met.add(first)
    return characters


def _grams(found: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(found[start:] for start in range(n)))


def _at_most_top(counts: Counter[str], n: int) -> int:
    """No less than `top`: the n-gram's words are each at least as frequent as it, and have no more characters than the largest share."""
    if not counts:
        return 0
    largest: int = max(map(mul, counts.values(), map(len, counts)))
    return n * largest + (n - 1) * max(counts.values())
