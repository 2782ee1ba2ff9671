"""The page: the funnel from the top to the bottom, then what was removed, to be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counted
from xml.etree.ElementTree import Element

from llmkit.data.funnel import Funnel
from llmkit.data.report import samples, tables
from llmkit.data.report.curves import duplicate_drawings, sensitivity_drawings
from llmkit.data.report.figures import funnel_drawing, languages_drawing, lengths_drawing, mixture_drawing
from llmkit.data.report.style import STYLE
from llmkit.data.report.words import byline, notices, summary
from llmkit.typeset import folding
from llmkit.typeset.frame import Drawing
from llmkit.typeset.markup import node
from llmkit.typeset.page import document, figures, section, sentences
from llmkit.typeset.table import Table
from llmkit.typeset.visible import one_line

TITLES = {
    "funnel": "The funnel",
    "reasons": "Why documents were dropped",
    "thresholds": "How much hangs on each threshold",
    "duplicates": "Duplicates",
    "contents": "What is in it",
    "broken": "Records that were no documents",
    "learned": "What was learned",
    "samples": "Read what was removed",
}
"""The parts of the page by their keys, in order."""


def page(funnel: Funnel) -> str:
    """The report as HTML."""
    parts = _parts(funnel)
    main = node("main", _head(funnel, list(parts)), parts.values(), _foot(funnel))
    return document(f"{one_line(funnel.name)}: the funnel", main, llmkit=funnel.llmkit, style=STYLE)


def _parts(funnel: Funnel) -> dict[str, Element]:
    """The parts that have something to tell, with tables and figures numbered through all of them."""
    told = {"funnel": [tables.stages(funnel)], **tables.others(funnel)}
    drawings: dict[str, list[Drawing]] = {
        "funnel": [funnel_drawing(funnel)],
        "thresholds": sensitivity_drawings(funnel),
        "duplicates": duplicate_drawings(funnel),
        "contents": [
            drawing for drawing in (lengths_drawing(funnel), languages_drawing(funnel), mixture_drawing(funnel)) if drawing is not None
        ],
    }
    table_number, figure_number = counted(1), 1
    parts: dict[str, Element] = {}
    for key, title in TITLES.items():
        inside: list[Element] = []
        drawn = drawings.get(key, [])
        shown = _set(told.get(key, []), table_number)
        pictures = [figures(drawn, figure_number)] if drawn else []
        figure_number += sum(drawing.picture is not None for drawing in drawn)
        inside += [*shown, *pictures] if key == "thresholds" else [*pictures, *shown]
        if key == "samples" and funnel.samples:
            inside += [node("p", samples.WARNING, class_="note"), *samples.drawn(funnel)]
        if inside:
            parts[key] = section(title, key, inside)
    return parts


def _set(shown: list[Table], numbers: Iterator[int]) -> list[Element]:
    return [folding.drawn(table, next(numbers)) for table in shown]


def _head(funnel: Funnel, parts: list[str]) -> Element:
    told = [node("p", node("b", "Look: "), sentences([sentence]), class_="notice") for sentence in notices(funnel)]
    return node(
        "header",
        node("h1", one_line(funnel.name)),
        node("p", byline(funnel), class_="byline"),
        node("p", sentences(summary(funnel)), class_="abstract"),
        told,
        node("nav", [node("a", TITLES[key], href=f"#{key}") for key in parts], aria_label="Parts of this page"),
    )


def _foot(funnel: Funnel) -> Element:
    return node("footer", f"llmkit {funnel.llmkit}, fingerprint {funnel.fingerprint}. The numbers are in funnel.json beside this file.")
