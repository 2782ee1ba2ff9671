"""The page: one file that loads nothing, laid out like a paper's ablation table and read without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from llmkit.ablate.report import curves, folding, paired, pareto, tables
from llmkit.ablate.report.frame import Drawing
from llmkit.ablate.report.markup import node, serialized
from llmkit.ablate.report.style import STYLE
from llmkit.ablate.report.words import Named, Sentence, baseline_of, byline, method, progress_words, summary
from llmkit.ablate.results import StudyResult

NOTHING_LOADED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself is told to load nothing."""


def page(result: StudyResult) -> str:
    """The report as HTML."""
    drawings = [*curves.draw(result), *paired.draw(result), *pareto.draw(result)]
    others = enumerate(tables.others(result), 2)
    main = node(
        "main",
        _head(result),
        _section("Results", "results-section", folding.drawn(tables.results(result), 1, result.baseline), _method(result)),
        _section("Figures", "figures-section", _figures(drawings)),
        [_section(table.title, table.key, folding.drawn(table, number, result.baseline)) for number, table in others],
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
    baseline = baseline_of(result)
    if baseline is not None and baseline.judgement.reason:
        yield node("p", node("b", "The baseline: "), baseline.judgement.reason, class_="notice")
    for warning in result.warnings:
        yield node("p", node("b", "Warning: "), warning, class_="notice")


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


def _provenance(result: StudyResult) -> Element:
    told = [part for key, value in tables.provenance(result) for part in (node("dt", key), node("dd", value))]
    command = [node("p", "The command that reproduces it:"), node("pre", node("code", result.command))] if result.command else []
    return _section("How to reproduce it", "provenance", *command, node("dl", told))
