"""A table of the report as HTML: one that scrolls in a box of its own on a screen, and that a phone folds into cards, one a row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree.ElementTree import Element

from llmkit.typeset.markup import node
from llmkit.typeset.table import Entry, Head, Row, Table

WORDS = frozenset({"better", "worse", "equivalent", "inconclusive", "confounded", "unstable", "diverged", "crashed"})
"""What is set in a colour of its own, and by its weight or slope where there is none."""


def drawn(table: Table, number: int, baseline: str | None = None) -> Element:
    """The table under its caption. Its roles are written out, since a browser forgets them where the style changes what a row is.

    baseline  the row that the others are compared with
    """
    label = f"{table.key}-caption"
    heads = [node("th", table.names, scope="col", role="columnheader"), *map(_head, table.heads)]
    rows: list[Element] = []
    for name, group in groupby(table.rows, key=lambda row: row.name):
        rows += _group(table, list(group), name == baseline)
    inside = node(
        "table",
        node("thead", node("tr", heads, role="row"), role="rowgroup"),
        node("tbody", rows, role="rowgroup"),
        role="table",
        aria_label=table.title,
        aria_describedby=label,
        class_=table.key,
    )
    kind = "scroll cards" if table.folds else "scroll"
    return node(
        "div",
        node("p", node("b", f"Table {number}. "), table.note, class_="caption", id=label),
        node("div", inside, class_=kind, tabindex=0, role="region", aria_label=f"Table {number}: {table.title}"),
    )


def _head(head: Head) -> Element:
    unit = node("span", head.unit, class_="unit") if head.unit else None
    return node("th", head.text, unit, scope="col", role="columnheader", class_=head.kind)


def _group(table: Table, rows: Sequence[Row], is_baseline: bool) -> list[Element]:
    """The rows of one name, which stands once beside all of them."""
    drawn = []
    for place, row in enumerate(rows):
        classes = {"first": place == 0, "last": place == len(rows) - 1, "baseline": is_baseline}
        name = _name(table, row, len(rows), is_baseline) if place == 0 else None
        cells = [_cell(entry, head) for entry, head in zip(row.cells, table.heads)]
        drawn.append(node("tr", name, cells, role="row", class_=" ".join(key for key, held in classes.items() if held) or None))
    return drawn


def _name(table: Table, row: Row, rows: int, is_baseline: bool) -> Element:
    """A row's name. Where it can be linked to, the baseline's says what it is."""
    return node(
        "th",
        row.name,
        node("span", "baseline", class_="second") if table.anchor and is_baseline else None,
        scope="row" if rows == 1 else "rowgroup",
        role="rowheader",
        rowspan=rows if rows > 1 else None,
        id=f"{table.anchor}-{row.place}" if table.anchor else None,
    )


def _cell(entry: Entry, head: Head) -> Element:
    classes = [head.kind, *([head.key] if head.key else []), *([] if entry.text else ["empty"])]
    shown: Element | str = node("span", entry.text, class_=entry.text) if entry.text in WORDS else entry.text
    note = node("span", entry.note, class_="second") if entry.note else None
    label = f"{head.text}, {head.unit}" if head.unit else head.text
    return node("td", shown, note, role="cell", class_=" ".join(classes), data_label=label)
