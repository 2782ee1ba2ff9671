"""The quality rules of FineWeb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmkit.core.interfaces.filter import Limit
from llmkit.plugins.filters.gopher_repetition import repeated
from llmkit.plugins.filters.rule_components import FineWebParams
from llmkit.plugins.filters.thresholds import ThresholdFilter, given, share
from llmkit.plugins.filters.words import TERMINAL, words


class FineWeb(ThresholdFilter):
    """Penedo et al., The FineWeb Datasets (arXiv 2406.17557), section 3.6: what was found to tell good dumps of the web from bad ones.

    Of the lines that are not blank:

        punctuated_lines            those that end with a full stop, a question or an exclamation mark, of any script: at least 0.12
        short_lines                 those of at most 30 characters: at most 0.67
        duplicate_line_characters   characters of lines that were there before, over all characters but line ends: at most 0.01
        newlines_per_word           line ends, over words: at most 0.3

    FineWeb itself ran `c4` with `terminal_punctuation: false` and both of Gopher's filters before it.
    """

    params: FineWebParams

    def statistics(self, text: str, exact: bool) -> Iterator[tuple[str, float]]:
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        yield "punctuated_lines", share(sum(line[-1] in TERMINAL for line in lines), len(lines))
        length = self.params.short_line
        yield "short_lines", share(sum(len(line) <= length for line in lines), len(lines))
        newlines = text.count("\n")
        yield "duplicate_line_characters", share(repeated(lines)[1], len(text) - newlines)
        yield "newlines_per_word", share(newlines, len(words(text)))

    def limits(self) -> Sequence[Limit]:
        params = self.params
        return given(
            Limit("min_punctuated_lines", "punctuated_lines", least=params.min_punctuated_lines),
            Limit("max_short_lines", "short_lines", most=params.max_short_lines),
            Limit("max_duplicate_line_characters", "duplicate_line_characters", most=params.max_duplicate_line_characters),
            Limit("max_newlines_per_word", "newlines_per_word", most=params.max_newlines_per_word),
        )
