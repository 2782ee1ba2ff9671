"""Encoding, Unicode form, white space and control characters, mended."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Filter
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.rule_components import NormaliseParams

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
SURROGATES = re.compile(r"[\ud800-\udfff]")
LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
SPACES = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f]")
BLANKS_AT_END = re.compile(r"(?<![^\S\n])[^\S\n]++$", re.MULTILINE)
"""From the first blank of a run alone, so that a long run within a line is looked at once."""
BLANK_LINES = re.compile(r"\n{4,}")
SUSPICIOUS = re.compile(r"[^\n\t\x20-\x25\x27-\x7e]")
"""What ftfy may change in a line without `<`: it leaves ASCII alone but for entities and controls."""


class Normalise(Filter):
    """Rewrites a text so that what reads the same is the same; it drops nothing.

    In this order: ftfy mends what was decoded wrongly, entities of HTML in text without tags, and terminal colours; control
    characters go, and a lone surrogate becomes U+FFFD; line ends become `\\n`, spaces of other widths a space, blanks at the end of a
    line go, and of more than two blank lines two stay; then Unicode's normalisation form. Quotes stay curly, ligatures and
    full-width letters as they are: a model should know them.
    """

    params: NormaliseParams

    def apply(self, document: Document) -> Document:
        text = self.normalised(document.text)
        return document if text == document.text else replace(document, text=text)

    def fingerprint(self) -> str:
        """Unicode's version, and ftfy's where it is asked."""
        if not self.params.mojibake:
            return unicodedata.unidata_version
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"{unicodedata.unidata_version} ftfy {version('ftfy')}"
        except PackageNotFoundError:
            return unicodedata.unidata_version

    def normalised(self, text: str) -> str:
        """The text as it should be."""
        params = self.params
        if params.mojibake and SUSPICIOUS.search(text):
            text = self._mended(text)
        if params.control_characters:
            text = SURROGATES.sub("\ufffd", CONTROLS.sub("", COLOURS.sub("", text)))
        if params.whitespace:
            text = SPACES.sub(" ", LINE_ENDS.sub("\n", text))
            text = BLANK_LINES.sub("\n\n\n", BLANKS_AT_END.sub("", text)).strip("\n")
        return unicodedata.normalize(params.unicode, text) if params.unicode else text

    def _mended(self, text: str) -> str:
        """Line by line, as `ftfy.fix_text` does, which unescapes entities until the first line with a `<`; sound lines are passed by."""
        from ftfy import fix_and_explain

        config, lines = self._ftfy, text.split("\n")
        for place, line in enumerate(lines):
            if config.unescape_html and "<" in line:
                config = config._replace(unescape_html=False)
            if SUSPICIOUS.search(line):
                lines[place] = fix_and_explain(line, config).text
        return "\n".join(lines)

    @cached_property
    def _ftfy(self) -> TextFixerConfig:
        try:
            from ftfy import TextFixerConfig
        except ImportError:
            raise UserError("normalise needs ftfy to mend encodings; pip install 'llmkit[data]', or set mojibake: false") from None
        return TextFixerConfig(
            uncurl_quotes=False,
            fix_latin_ligatures=False,
            fix_character_width=False,
            fix_line_breaks=False,
            normalization=None,
            explain=False,
        )
