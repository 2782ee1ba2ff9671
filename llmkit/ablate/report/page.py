"""The page: laid out like a paper's ablation table."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from llmkit.ablate.report import curves, paired, pareto, tables
from llmkit.ablate.report.words import baseline_of, byline, method, progress_words, summary
from llmkit.ablate.results import StudyResult
from llmkit.typeset import folding
from llmkit.typeset.markup import node
from llmkit.typeset.page import document, figures, section, sentences


def page(result: StudyResult) -> str:
    """The report as HTML."""
    drawings = [*curves.draw(result), *paired.draw(result), *pareto.draw(result)]
    others = enumerate(tables.others(result), 2)
    main = node(
        "main",
        _head(result),
        section("Results", "results-section", folding.drawn(tables.results(result), 1, result.baseline), _method(result)),
        section("Figures", "figures-section", figures(drawings)),
        [section(table.title, table.key, folding.drawn(table, number, result.baseline)) for number, table in others],
        _provenance(result),
    )
    return document(f"{result.study}: ablation", main, llmkit=result.llmkit)


def _head(result: StudyResult) -> Element:
    return node(
        "header",
        node("h1", result.study),
        node("p", byline(result), class_="byline"),
        node("p", sentences(summary(result)), class_="abstract"),
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


def _method(result: StudyResult) -> Element:
    return node("p", " ".join(method(result)), class_="note")


def _provenance(result: StudyResult) -> Element:
    told = [part for key, value in tables.provenance(result) for part in (node("dt", key), node("dd", value))]
    command = [node("p", "The command that reproduces it:"), node("pre", node("code", result.command))] if result.command else []
    return section("How to reproduce it", "provenance", *command, node("dl", told))
