"""The repetition rules of Gopher."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import mul

from llmkit.core.interfaces.filter import Limit
from llmkit.plugins.filters.rule_components import GopherRepetitionParams
from llmkit.plugins.filters.thresholds import ThresholdFilter, given, share
from llmkit.plugins.filters.words import words

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")
TOP = (2, 3, 4)
DUPLICATED = (5, 6, 7, 8, 9, 10)


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
        if not exact and _at_most_duplicated(found) <= min(self._allowed(f"duplicate_{n}_grams") for n in DUPLICATED) * characters:
            return
        for n in DUPLICATED:
            yield f"duplicate_{n}_grams", share(duplicated(found, n), characters)

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


def duplicated(found: Sequence[str], n: int) -> int:
    """The characters of words in n-grams that were there before, from left to right and none counted twice."""
    seen: set[tuple[str, ...]] = set()
    grams = list(_grams(found, n))
    place = characters = 0
    while place < len(grams):
        gram = grams[place]
        if gram in seen:
            characters += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return characters


def _grams(found: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(found[start:] for start in range(n)))


def _at_most_top(counts: Counter[str], n: int) -> int:
    """No less than `top`: the n-gram's words are each at least as frequent as it, and have no more characters than the largest share."""
    if not counts:
        return 0
    largest: int = max(map(mul, counts.values(), map(len, counts)))
    return n * largest + (n - 1) * max(counts.values())


def _at_most_duplicated(found: Sequence[str]) -> int:
    """No less than `duplicated` for any n of 5 and more: the characters of all words in 5-grams that were there before."""
    n = DUPLICATED[0]
    grams = list(_grams(found, n))
    seen = set(grams)
    if len(seen) == len(grams):
        return 0
    seen.clear()
    characters = covered = 0
    for place, gram in enumerate(grams):
        if gram in seen:
            characters += sum(map(len, gram[max(covered - place, 0) :]))
            covered = place + n
        else:
            seen.add(gram)
    return characters
