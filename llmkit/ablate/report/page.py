"""The page: one file that loads nothing, laid out like a paper's ablation table and read without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.etree.ElementTree import Element

from llmkit.ablate.report import curves, paired, pareto, tables
from llmkit.ablate.report.columns import Entry
from llmkit.ablate.report.frame import Drawing
from llmkit.ablate.report.markup import node, serialized
from llmkit.ablate.report.style import STYLE
from llmkit.ablate.report.tables import CODE, NUMBER, PROSE, Row, Table
from llmkit.ablate.report.words import Named, Sentence, byline, method, progress_words, summary
from llmkit.ablate.results import StudyResult

NOTHING_LOADED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself is told to load nothing."""

CLASSES = {PROSE: "prose-cell", CODE: "code", NUMBER: "number"}
WORDS = frozenset({"better", "worse", "equivalent", "inconclusive", "confounded", "unstable", "diverged", "crashed"})


def page(result: StudyResult) -> str:
    """The report as HTML."""
    drawings = [*paired.draw(result), *pareto.draw(result), *curves.draw(result)]
    main = node(
        "main",
        _head(result),
        _section("Results", "results-section", _table(tables.results(result), 1, result, cards=True), _method(result)),
        _section("Figures", "figures-section", _figures(drawings)),
        [_appendix(table, number, result) for number, table in enumerate(tables.others(result), 2)],
        _provenance(result),
    )
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=NOTHING_LOADED),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="generator", content=f"llmkit {result.llmkit}".strip()),
        node("link", rel="icon", href="data:,"),
        node("title", f"{result.study}: ablation"),
        node("style", STYLE),
    )
    return "<!doctype html>\n" + serialized(node("html", head, node("body", main), lang="en"))


def _head(result: StudyResult) -> Element:
    told = [piece for sentence in summary(result) for piece in (*_fragments(sentence), " ")]
    return node(
        "header",
        node("h1", result.study),
        node("p", byline(result), class_="byline"),
        node("p", told, class_="abstract"),
        _notices(result),
    )


def _notices(result: StudyResult) -> Iterator[Element]:
    """What a reader must know before the numbers."""
    if (unfinished := progress_words(result)) is not None:
        yield node("p", node("b", "Not complete. "), unfinished, class_="notice")
    if result.amendments:
        number = len(result.amendments)
        what = f"was changed {'once' if number == 1 else f'{number} times'} after its first run"
        yield node("p", node("b", "Amended. "), "The study ", node("a", what, href="#amendments"), ".", class_="notice")
    for warning in result.warnings:
        yield node("p", node("b", "Warning. "), warning, class_="notice")


def _fragments(sentence: Sentence) -> Iterator[Element | str]:
    for piece in sentence:
        yield node("strong", piece) if isinstance(piece, Named) else piece


def _section(title: str, key: str, *parts: Element) -> Element:
    return node("section", node("h2", title, id=f"{key}-title"), *parts, id=key, aria_labelledby=f"{key}-title")


def _method(result: StudyResult) -> Element:
    return node("p", " ".join(method(result)), class_="note")


def _figures(drawings: Sequence[Drawing]) -> Element:
    number = 0
    figures = []
    for drawing in drawings:
        if drawing.picture is None:
            figures.append(node("p", node("b", f"{drawing.title}. "), drawing.caption, class_="note"))
            continue
        number += 1
        caption = node("figcaption", node("b", f"Figure {number}. {drawing.title}. "), drawing.caption)
        figures.append(node("figure", drawing.picture, caption, id=f"figure-{drawing.key}"))
    return node("div", figures, class_="figures")


def _appendix(table: Table, number: int, result: StudyResult) -> Element:
    return _section(table.title, table.key, _table(table, number, result))


def _table(table: Table, number: int, result: StudyResult, cards: bool = False) -> Element:
    """A table in a box of its own, which scrolls sideways where it is wider than the page.

    cards  on a phone, each arm becomes a card instead
    """
    heads = [node("th", table.names, scope="col", role="columnheader")]
    heads += [
        node(
            "th",
            head.text,
            node("span", head.unit, class_="unit") if head.unit else None,
            scope="col",
            role="columnheader",
            class_=CLASSES.get(head.kind, head.kind),
        )
        for head in table.heads
    ]
    rows: list[Element] = []
    for _, group in groupby(table.rows, key=lambda row: row.name):
        rows += _rows(table, list(group), result)
    caption = node("caption", node("b", f"Table {number}. "), f"{table.title}. " if cards else "", table.note)
    drawn = node(
        "table",
        caption,
        node("thead", node("tr", heads, role="row"), role="rowgroup"),
        node("tbody", rows, role="rowgroup"),
        role="table",
        class_="wide" if cards else None,
    )
    return node(
        "div", drawn, class_="scroll cards" if cards else "scroll", tabindex=0, role="region", aria_label=f"Table {number}: {table.title}"
    )


def _rows(table: Table, group: Sequence[Row], result: StudyResult) -> list[Element]:
    """The rows of one name, which stands once beside all of them."""
    rows = []
    for place, row in enumerate(group):
        cells = [
            _cell(entry, head.text, head.unit, head.kind, table, column) for column, (entry, head) in enumerate(zip(row.cells, table.heads))
        ]
        name = [_name(table, row, len(group), result)] if place == 0 else []
        classes = ["first"] * (place == 0) + ["baseline"] * (row.name == result.baseline and table.key != "amendments")
        rows.append(node("tr", name, cells, role="row", class_=" ".join(classes) or None))
    return rows


def _name(table: Table, row: Row, rows: int, result: StudyResult) -> Element:
    is_baseline = table.key == "results" and row.name == result.baseline
    return node(
        "th",
        row.name,
        node("span", "baseline", class_="second") if is_baseline else None,
        scope="row",
        role="rowheader",
        rowspan=rows if rows > 1 else None,
        id=f"arm-{row.place}" if table.key == "results" else None,
    )


def _cell(entry: Entry, head: str, unit: str, kind: str, table: Table, column: int) -> Element:
    classes = [CLASSES.get(kind, kind)] + ["empty"] * (not entry.text)
    shown: Element | str = node("span", entry.text, class_=entry.text) if entry.text in WORDS else entry.text
    note = node("span", entry.note, class_="second") if entry.note else None
    label = f"{head}, {unit}" if unit else head
    key = {"difference": "difference", "verdict": "verdict"}.get(head, "mean" if "±" in entry.text else None)
    return node(
        "td", shown, note, role="cell", class_=" ".join(classes), data_label=label, data_key=key if table.key == "results" else None
    )


def _provenance(result: StudyResult) -> Element:
    told = [part for key, value in tables.provenance(result) for part in (node("dt", key), node("dd", value))]
    command = [node("p", "The command that reproduces it:"), node("pre", node("code", result.command))] if result.command else []
    return _section("How to reproduce it", "provenance", *command, node("dl", told))
