"""The page: read by a parser, and opened in a browser as a phone, a desk and a printer show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_browser
import report_examples
from report_browser import Browser
from report_examples import HOSTILE
from report_pages import CONTRAST, OVERLAPS, Read

from llmkit.ablate.report import write_report
from llmkit.ablate.report.page import page
from llmkit.ablate.report.words import ordered
from llmkit.typeset.digits import between, measured, probability, quantity

STUDIES = ("whole", "sequential", "table_only", "baseline_only", "nothing_yet", "hostile", "many")


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_refers_to_nothing_outside_itself(name: str) -> None:
    text = page(getattr(report_examples, name)())
    read = Read(text)
    for tag in read.tags:
        assert tag.name not in ("script", "img", "iframe", "object", "embed", "base", "form")
        assert not [key for key in tag.attributes if key.startswith("on")]
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert tag.attributes.get(key, "#").startswith(("#", "data:,"))
    style = "".join(read.inside("style"))
    assert "url(" not in style and "@import" not in style and "@font-face" not in style


@pytest.mark.parametrize("name", STUDIES)
def test_ids_are_unique_and_what_is_referred_to_is_there(name: str) -> None:
    tags = Read(page(getattr(report_examples, name)())).tags
    ids = [tag.attributes["id"] for tag in tags if "id" in tag.attributes]
    assert len(ids) == len(set(ids))
    for tag in tags:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(tag.attributes.get(key, "").split()) <= set(ids)
        if tag.attributes.get("href", "").startswith("#"):
            assert tag.attributes["href"][1:] in ids


@pytest.mark.parametrize("name", STUDIES)
def test_those_who_do_not_see_are_told_as_much(name: str) -> None:
    read = Read(page(getattr(report_examples, name)()))
    for tag in read.tags:
        if tag.name == "svg":
            assert tag.attributes["role"] == "img" and tag.attributes["aria-labelledby"] and tag.attributes["aria-describedby"]
        if tag.name == "th":
            assert tag.attributes["scope"] in ("col", "row", "rowgroup")
        if tag.name == "table":
            assert tag.attributes["aria-label"]
    levels = [int(tag.name[1]) for tag in read.tags if re.fullmatch(r"h\d", tag.name)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    assert next(tag for tag in read.tags if tag.name == "html").attributes["lang"] == "en"


def test_every_arm_is_there_with_the_numbers_of_the_result() -> None:
    result = report_examples.whole()
    rows = list(results_rows(page(result)))
    assert [row[0] for row in rows] == [arm.name for arm in ordered(result)]
    for row, arm in zip(rows, ordered(result), strict=True):
        told, judgement = " | ".join(row), arm.judgement
        assert quantity(arm.parameters["total"]) in row and quantity(arm.flops_per_token["training"]) in row
        assert quantity(arm.peak_memory_bytes, "B") in row and quantity(arm.kv_cache_bytes_per_token, "B") in row
        assert measured(judgement.mean, judgement.deviation) in told
        if judgement.verdict is not None:
            assert judgement.interval is not None
            assert {between(judgement.interval, sign=True), probability(judgement.p_adjusted), judgement.verdict} <= set(row)
        assert arm.worth is None or arm.worth.words in row


def test_what_a_reader_must_know_is_told() -> None:
    result = report_examples.whole()
    text = " ".join(text for _, text in Read(page(result)).texts)
    for told in (
        result.hash,
        result.command,
        "loss is not finite at step 431 of 960",
        "killed by signal 9 (out of memory?)",
        "the margin of equivalence was set after the first run",
        "was changed once after its first run",
        "48% more parameters than the baseline (8,552,000 against 5,770,240)",
        "model.block.attention.n_kv_heads",
        "model.block.ffn.d_ff 688 -> 752",
        "at the edge of what was tried",
        "A two-sided paired t-test over the seeds decides, at \u03b1 = 0.05 with Holm\u2019s correction over the arms",
        "x86_64, 2 threads",
    ):
        assert told in text, told


def test_names_with_marks_are_text_wherever_they_stand() -> None:
    text = page(report_examples.hostile())
    read = Read(text)
    assert "<script" not in text and "<img" not in text and "<i>" not in text
    assert [row[0] for row in results_rows(text)] == list(HOSTILE)
    assert '<b>"study" & co</b>' in read.inside("h1")


def results_rows(text: str) -> Iterator[list[str]]:
    """The texts of each row of the table of results."""
    body = re.search(r'<table[^>]*class="results".*?<tbody[^>]*>(.*?)</tbody>', text, re.S)
    assert body is not None
    for row in re.findall(r"<tr.*?</tr>", body[1], re.S):
        yield [piece for within, piece in Read(row).texts if len(within) > 1 and piece.strip()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = report_browser.installed()
    if program is None:
        pytest.skip("no Chromium on this machine")
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", STUDIES)
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(browser: Browser, name: str, width: int, tmp_path: Path) -> None:
    file = write_report(getattr(report_examples, name)(), tmp_path)[0]
    browser.open(file, width)
    assert browser.value("document.documentElement.scrollWidth") == browser.value("innerWidth") == width
    assert browser.complaints() == []
    assert [request for request in browser.requests() if not request.startswith("data:")] == [file.resolve().as_uri()]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", ["whole", "sequential", "table_only", "hostile", "many"])
def test_no_label_of_a_figure_covers_another(browser: Browser, name: str, width: int, tmp_path: Path) -> None:
    browser.open(write_report(getattr(report_examples, name)(), tmp_path)[0], width)
    assert browser.value(OVERLAPS) == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_the_contrast_that_readers_need_by_day_and_by_night(browser: Browser, dark: bool, tmp_path: Path) -> None:
    browser.open(write_report(report_examples.whole(), tmp_path)[0], 1400, dark=dark)
    assert browser.value(CONTRAST) >= 4.5
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 254, 251)") is not dark


@pytest.mark.slow
def test_it_prints_on_paper_with_nothing_cut_off(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(report_examples.whole(), tmp_path)[0], 1400)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 5
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call("Emulation.setDeviceMetricsOverride", width=680, height=960, deviceScaleFactor=1, mobile=False)
    try:
        tables = "Math.max(...[...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right))"
        assert browser.value(tables) <= 681
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
