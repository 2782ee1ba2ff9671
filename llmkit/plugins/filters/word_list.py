"""Words of a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Limit
from llmkit.plugins.filters.rule_components import WordListParams
from llmkit.plugins.filters.thresholds import ThresholdFilter, given, share

WORDS = re.compile(r"\w+")


class WordList(ThresholdFilter):
    """C4's filter of bad words (Raffel et al., arXiv 1910.10683, section 2.2): drops where words of a list occur too often.

    A match is in any case, and has no letter, digit or underscore beside it unless `part_of_words`; phrases match with the very
    blanks and signs that the list has. Where two matches overlap, the first counts, and the longer of two that begin together.

        count   matches
        share   matches over words (runs of letters, digits and underscores)

    llmkit brings no list. C4's is https://github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words (CC BY 4.0).
    """

    params: WordListParams

    def statistics(self, text: str, exact: bool) -> Iterator[tuple[str, float]]:
        lowered = text.lower()
        found = Counter(WORDS.findall(lowered))
        count = self._count(lowered, found)
        yield "count", count
        yield "share", share(count, found.total())

    def limits(self) -> Sequence[Limit]:
        return given(Limit("max_count", "count", most=self.params.max_count), Limit("max_share", "share", most=self.params.max_share))

    def fingerprint(self) -> str:
        return sha256("\n".join(self._entries).encode()).hexdigest()[:16]

    def _count(self, lowered: str, found: Mapping[str, int]) -> int:
        """Single words are looked up among the text's; phrases are searched for where their words are there."""
        if self.params.part_of_words:
            return sum(1 for _ in self._anywhere.finditer(lowered))
        candidates = [entry for entry, parts in self._phrases.items() if all(part in found for part in parts)]
        if not candidates:
            return sum(found[word] for word in self._single.intersection(found))
        candidates.extend(self._single.intersection(found))
        return sum(1 for _ in re.finditer(rf"(?<!\w)(?:{_alternatives(candidates)})(?!\w)", lowered))

    @cached_property
    def _single(self) -> frozenset[str]:
        return frozenset(entry for entry in self._entries if WORDS.fullmatch(entry))

    @cached_property
    def _phrases(self) -> Mapping[str, Sequence[str]]:
        """All entries that are more than one word, or none, with their words."""
        return {entry: WORDS.findall(entry) for entry in self._entries if entry not in self._single}

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return re.compile(_alternatives(self._entries))

    @cached_property
    def _entries(self) -> Sequence[str]:
        words = self.params.words
        entries = sorted({word.strip().lower() for word in (_read(words) if isinstance(words, str) else words)} - {""})
        if not entries:
            raise UserError(f"word_list: there is no word in {words!r}; give some, or a file with one on every line")
        return entries


def _alternatives(entries: Sequence[str]) -> str:
    return "|".join(map(re.escape, sorted(entries, key=len, reverse=True)))


def _read(path: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"word_list: {path!r} is no UTF-8: {error.reason} at offset {error.start}; convert it, such as with iconv"
        ) from error
    except OSError as error:
        raise UserError(f"word_list: cannot read {path!r}: {error.strerror}") from error
