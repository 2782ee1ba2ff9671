"""The page around a report: one file that loads nothing and is read without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from llmkit.typeset.frame import Drawing
from llmkit.typeset.markup import Child, node, serialized
from llmkit.typeset.sentence import Named, Sentence
from llmkit.typeset.style import STYLE

NOTHING_LOADED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself is told to load nothing."""


def document(title: str, main: Element, *, llmkit: str = "", style: str = "") -> str:
    """A whole page as HTML; `style` is what this kind of report needs besides the sheet of all."""
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=NOTHING_LOADED),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="generator", content=f"llmkit {llmkit}".strip()),
        node("link", rel="icon", href="data:,"),
        node("title", title),
        node("style", STYLE + style),
    )
    return "<!doctype html>\n" + serialized(node("html", head, node("body", main), lang="en"))


def section(title: str, key: str, *parts: Child | Sequence[Child]) -> Element:
    """A part of the page with a heading of its own."""
    return node("section", node("h2", title, id=f"{key}-title"), *parts, id=key, aria_labelledby=f"{key}-title")


def sentences(told: Sequence[Sentence]) -> Iterator[Element | str]:
    """Sentences one after another, with what is named in them set apart."""
    for sentence in told:
        for piece in sentence:
            yield node("strong", piece) if isinstance(piece, Named) else piece
        yield " "


def figures(drawings: Sequence[Drawing], first: int = 1) -> Element:
    """Figures side by side, numbered from `first`; one without a picture is its sentence."""
    number = first - 1
    shown = []
    for drawing in drawings:
        if drawing.picture is None:
            shown.append(node("p", node("b", f"{drawing.title}. "), drawing.caption, class_="note"))
            continue
        number += 1
        caption = node("figcaption", node("b", f"Figure {number}. {drawing.title}. "), drawing.caption)
        shown.append(node("figure", drawing.picture, caption, id=f"figure-{drawing.key}"))
    return node("div", shown, class_="figures")
