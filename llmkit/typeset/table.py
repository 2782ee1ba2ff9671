"""A table as text: the page and the Markdown set the same one."""

from __future__ import annotations

from typing import NamedTuple

PROSE = "prose"
CODE = "code"
ADDRESS = "address"
NUMBER = "number"
WORD = "word"


class Entry(NamedTuple):
    """What a row has in a column; both empty where it has nothing."""

    text: str
    note: str = ""


class Head(NamedTuple):
    """The head of a column: its words, the unit below them, what stands in the column, and a name to set it by."""

    text: str
    unit: str = ""
    kind: str = NUMBER
    key: str = ""


class Row(NamedTuple):
    """One thing, or one of several rows that belong to it."""

    name: str
    cells: list[Entry]
    place: int = 0


class Table(NamedTuple):
    """A table of a report.

    names   the head of the column of names, which `heads` does not have
    heads   all other columns
    anchor  each row of a table with one can be linked to, as `<anchor>-<place>`
    folds   whether a phone makes cards of its rows; it scrolls a table of short numbers
    """

    key: str
    title: str
    names: str
    heads: list[Head]
    rows: list[Row]
    note: str = ""
    anchor: str = ""
    folds: bool = True


def narrowed(table: Table) -> Table:
    """Without the columns in which nobody has anything."""
    kept = [place for place in range(len(table.heads)) if any(row.cells[place].text for row in table.rows)]
    rows = [row._replace(cells=[row.cells[place] for place in kept]) for row in table.rows]
    return table._replace(heads=[table.heads[place] for place in kept], rows=rows)
