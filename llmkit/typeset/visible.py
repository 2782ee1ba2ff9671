"""Text of strangers, as it can be shown: what would act on the page or deceive its reader is written out."""

from __future__ import annotations

import re
import unicodedata

CUT = "…"
STACKED = 4
"""Combining marks on one character beyond which they are left out: more are seen in no language, and cover the lines around."""

LINES = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
KEPT = frozenset("\n\t")
HIDDEN = frozenset({"Cc", "Cf", "Co", "Cn", "Cs"})
"""Categories that have no glyph: control characters, those that turn the direction of writing, private ones, half pairs."""

JOINERS = frozenset("\u200c\u200d\u00ad")
"""Of these, what Persian, Hindi, emoji and hyphenation need, and what deceives nobody."""


def visible(text: str, most: int | None = None) -> str:
    """The text with the number of each character that has no glyph in its place: NUL is `⟨0000⟩`, an override of direction `⟨202E⟩`.

    most  characters after which it is cut, with a sign that it is
    """
    cut = most is not None and len(text) > most
    lines = LINES.sub("\n", text[:most])
    return _thinned("".join(character if character.isascii() and character.isprintable() else _shown(character) for character in lines)) + (
        CUT if cut else ""
    )


def one_line(text: str, most: int | None = None) -> str:
    """The same for a name or a reason: runs of white space are one space."""
    return visible(" ".join(text.split()), most)


def _shown(character: str) -> str:
    if character in KEPT or character in JOINERS or unicodedata.category(character) not in HIDDEN:
        return character
    return f"\u27e8{ord(character):04X}\u27e9"


def _thinned(text: str) -> str:
    """Without the combining marks that stand on others, many on one character."""
    if not any(unicodedata.combining(character) for character in text):
        return text
    kept: list[str] = []
    stacked = 0
    for character in text:
        stacked = stacked + 1 if unicodedata.combining(character) else 0
        if stacked <= STACKED:
            kept.append(character)
    return "".join(kept)
