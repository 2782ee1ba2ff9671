"""GitHub's Markdown: text that means itself, tables, and what stands in a fence."""

from __future__ import annotations

import re

from llmkit.typeset.sentence import Named, Sentence
from llmkit.typeset.table import ADDRESS, CODE, NUMBER, Entry, Table

MARKS = re.compile(r"([\\`*_{}<#|~&$]|\[(?=[^\]]*\][(\[:]))")


def escaped(text: str) -> str:
    """Text that means itself, within a cell as well: no mark, no line of its own."""
    return MARKS.sub(r"\\\1", " ".join(re.split(r"\r\n|\n|\r", text)))


def sentence(pieces: Sentence) -> str:
    """A sentence, with what is named in it set apart."""
    return "".join(f"**{escaped(piece)}**" if isinstance(piece, Named) else escaped(piece) for piece in pieces)


def table(of: Table) -> str:
    """A table as lines of cells."""
    heads = [of.names, *(f"{head.text} ({head.unit})" if head.unit else head.text for head in of.heads)]
    rule = ["---", *("---:" if head.kind == NUMBER else "---" for head in of.heads)]
    rows = [[escaped(row.name), *(_cell(entry, head.kind) for entry, head in zip(row.cells, of.heads))] for row in of.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(map(escaped, heads)), rule, *rows))


def fenced(text: str, language: str = "") -> str:
    """Text as it is, in a fence that is longer than any within it."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _cell(entry: Entry, kind: str) -> str:
    text = escaped(entry.text)
    if kind in (ADDRESS, CODE) and text and "`" not in entry.text and "|" not in entry.text:
        text = f"`{' '.join(entry.text.split())}`"
    return f"{text}<br>{escaped(entry.note)}" if entry.note else text
