"""The funnel's page: read by a parser, and opened in a browser as a phone and a desk show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import funnel_examples
import pytest
import report_browser
from funnel_examples import HOSTILE, limit, sample, share
from hypothesis import given, settings
from hypothesis import strategies as st
from report_browser import Browser
from report_pages import CONTRAST, OVERLAPS, Read, points

from llmkit.data.funnel import Amount, Audit, Clusters, Curve, Funnel, Sample, Stage
from llmkit.data.report import write_report
from llmkit.data.report.curves import duplicate_drawings, sensitivity_drawings
from llmkit.data.report.figures import funnel_drawing, languages_drawing, lengths_drawing, mixture_drawing
from llmkit.data.report.page import page
from llmkit.data.report.samples import LINES
from llmkit.typeset.frame import WIDTH, Drawing
from llmkit.typeset.visible import visible

every = pytest.mark.parametrize("make", funnel_examples.EVERY, ids=lambda make: make.__name__)
Make = Callable[[], Funnel]
OUTSIDE = "html head meta link title style body main header footer nav section div h1 h2 h3 p b strong a span ol li pre bdi del ins code"
INSIDE = "figure figcaption svg desc path rect circle text table thead tbody tr th td details summary"
TAGS = frozenset(f"{OUTSIDE} {INSIDE}".split(" "))
"""What the page is made of: another tag would be one of a text's own."""


def drawings(funnel: Funnel) -> list[Drawing]:
    others = (lengths_drawing(funnel), languages_drawing(funnel), mixture_drawing(funnel))
    drawn = [funnel_drawing(funnel), *(drawing for drawing in others if drawing is not None)]
    return [*drawn, *sensitivity_drawings(funnel), *duplicate_drawings(funnel)]


@every
def test_a_page_refers_to_nothing_outside_itself_and_has_only_our_tags(make: Make) -> None:
    read = Read(page(make()))
    for tag in read.tags:
        assert tag.name in TAGS, tag
        assert not [key for key in tag.attributes if key.startswith("on")]
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert tag.attributes.get(key, "#").startswith(("#", "data:,"))
    style = "".join(read.inside("style"))
    assert "url(" not in style and "@import" not in style and "@font-face" not in style


@every
def test_ids_are_unique_and_what_is_referred_to_is_there(make: Make) -> None:
    tags = Read(page(make())).tags
    ids = [tag.attributes["id"] for tag in tags if "id" in tag.attributes]
    assert len(ids) == len(set(ids))
    for tag in tags:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(tag.attributes.get(key, "").split()) <= set(ids)
        if tag.attributes.get("href", "").startswith("#"):
            assert tag.attributes["href"][1:] in ids


@every
def test_those_who_do_not_see_are_told_as_much(make: Make) -> None:
    read = Read(page(make()))
    for tag in read.tags:
        if tag.name == "svg":
            assert tag.attributes["role"] == "img" and tag.attributes["aria-labelledby"] and tag.attributes["aria-describedby"]
        if tag.name == "th":
            assert tag.attributes["scope"] in ("col", "row", "rowgroup")
    levels = [int(tag.name[1]) for tag in read.tags if re.fullmatch(r"h\d", tag.name)]
    assert levels[0] == 1 and 1 not in levels[1:]


@every
def test_every_table_and_figure_has_a_caption_with_a_number_of_its_own(make: Make) -> None:
    read = Read(page(make()))
    told = [text for within, text in read.texts if within[-1:] == ("b",)]
    for word, tag in (("Table", "table"), ("Figure", "figure")):
        numbers = [int(found[1]) for text in told if (found := re.match(rf"{word} (\d+)\.", text))]
        assert numbers == list(range(1, sum(one.name == tag for one in read.tags) + 1))


def test_what_a_stranger_wrote_is_told_as_text() -> None:
    read = Read(page(funnel_examples.hostile()))
    samples = "".join(read.inside("pre"))
    for text in HOSTILE:
        assert visible(text) in samples
    assert visible(HOSTILE[0]) in read.inside("h1")


def test_white_space_that_was_rewritten_is_seen() -> None:
    taken = [sample("filters.c4", "rewritten", "id", "one  two\n\n\nthree", removal="rewritten", after="one two\nthree")]
    read = Read(page(funnel_examples.bare().model_copy(update={"samples": taken})))
    assert ("".join(read.inside("del")), "".join(read.inside("ins"))) == ("\u00b7\u00b7\u21b5\n\u21b5\n\u21b5\n", "\u00b7\u21b5\n")


def test_a_change_is_shown_without_a_line_that_was_not_there() -> None:
    taken = [sample("filters.c4", "rewritten", "id", "one two three", removal="rewritten", after="one 2 three")]
    read = Read(page(funnel_examples.bare().model_copy(update={"samples": taken})))
    assert "".join(read.inside("pre")) == "one two2 three"


def test_a_rewritten_text_of_nothing_but_lines_is_cut() -> None:
    taken = [sample("filters.c4", "rewritten", "id", "a\n" * 3_000, removal="rewritten", after="b\n" * 3_000)]
    read = Read(page(funnel_examples.bare().model_copy(update={"samples": taken})))
    assert "".join(read.inside("pre")).count("\n") <= 4 * LINES


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(), min_size=1, max_size=40), min_size=6, max_size=6))
def test_no_text_gets_out_of_its_place(texts: list[str]) -> None:
    reason, id, source, text, after, keeper = texts
    taken = [
        Sample(stage="filters.c4", removal="rewritten", reason=reason, id=id, source=source, text=text, after=after),
        Sample(stage="deduplicators.near", removal="dropped", reason=reason, id=id, source=source, text=text, keeper=keeper),
    ]
    small = funnel_examples.bare().model_copy(update={"samples": taken})
    tags = [(tag.name, tag.attributes) for tag in Read(page(small)).tags if tag.name not in ("del", "ins")]
    plain = [one.model_copy(update=dict.fromkeys(("reason", "id", "source", "text"), "x")) for one in taken]
    same = [tag for tag in Read(page(small.model_copy(update={"samples": plain}))).tags if tag.name not in ("del", "ins")]
    assert tags == [(tag.name, tag.attributes) for tag in same]


@every
def test_everything_drawn_is_finite_and_lies_in_the_picture(make: Make) -> None:
    for drawing in drawings(make()):
        check(drawing)


def check(drawing: Drawing) -> None:
    assert drawing.caption.endswith(".") and drawing.title
    if drawing.picture is None:
        return
    height = float(drawing.picture.get("viewBox", "").split()[3])
    assert all(-1 <= x <= WIDTH + 1 and -1 <= y <= height + 1 for x, y in points(drawing.picture)), drawing.key


amounts = st.builds(Amount, documents=st.integers(0, 10**10), bytes=st.integers(0, 10**14), tokens=st.none() | st.integers(0, 10**13))
numbers = st.floats(-1e9, 1e9, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1e-9])
parts = st.floats(0, 1)


@st.composite
def funnels(draw: st.DrawFn) -> Funnel:
    """Funnels of any numbers, whether or not they can be."""
    names = ["read", "extract", "filters.a", "deduplicators.b", "split", "tokenize"]
    stages = [
        Stage(stage=name, before=draw(amounts), after=draw(amounts), removed=draw(st.integers(0, 9)), rewritten=draw(st.integers(0, 9)))
        for name in names[: draw(st.integers(0, 6))]
    ]
    limits = draw(st.lists(st.tuples(st.none() | numbers, st.none() | numbers, st.lists(numbers, max_size=100).map(sorted)), max_size=3))
    curve = [
        Curve(low=step / 4, high=(step + 1) / 4, pairs=pairs, found=round(pairs * draw(parts)), expected=draw(st.none() | parts))
        for step, pairs in enumerate(draw(st.lists(st.integers(0, 10**9), max_size=4)))
    ]
    audit = Audit(documents=9, threshold=draw(parts), duplicates=3, found=2, recall=0.5, precision=None, curve=curve)
    bins = st.dictionaries(st.integers(1, 10**12), st.integers(0, 10**9), max_size=5)
    sizes = draw(st.dictionaries(st.integers(2, 10**9), st.integers(1, 10**9), max_size=5))
    shares = [(name, draw(parts), draw(parts), draw(st.none() | parts)) for name in "ab"]
    return Funnel(
        llmkit="",
        name="any",
        fingerprint="",
        stages=stages,
        sensitivities=[limit("p", "s", values, least, most) for least, most, values in limits],
        clusters=[Clusters(stage="deduplicators.b", sizes=sizes, audit=audit)],
        shares=[share(name, 1, 1, 1, proportion, available, epochs) for name, proportion, available, epochs in shares],
        lengths=draw(bins),
        lengths_read=draw(bins),
        languages=draw(st.dictionaries(st.text(max_size=5), st.integers(1, 10**9), max_size=4)),
    )


@settings(max_examples=50, deadline=None)
@given(funnels())
def test_no_numbers_make_a_figure_or_the_page_fail(funnel: Funnel) -> None:
    for drawing in drawings(funnel):
        check(drawing)
    Read(page(funnel))


def test_a_threshold_is_drawn_on_its_curve_at_the_part_that_it_drops() -> None:
    values = [float(value) for value in range(100)]
    (drawing,) = sensitivity_drawings(Funnel.model_validate({**blank(), "sensitivities": [limit("p", "s", values, least=20.0)]}))
    assert drawing.picture is not None and "drops 20.2%" in drawing.caption
    ticks = [text for text in drawing.picture.iter("text") if text.get("class") == "tick"]
    for place, anchor, read in (("cx", "middle", 20.0), ("cy", "end", 20.2)):
        side = "x" if place == "cx" else "y"
        shift = 0.0 if side == "x" else 3.7
        known = sorted((float(tick.text or ""), float(tick.get(side, "")) - shift) for tick in ticks if tick.get("text-anchor") == anchor)
        (low, start), *_, (high, end) = known
        (dot,) = drawing.picture.iter("circle")
        assert low + (high - low) * (float(dot.get(place, "")) - start) / (end - start) == pytest.approx(read, abs=0.3)


def blank() -> dict[str, object]:
    return {"llmkit": "", "name": "", "fingerprint": "", "stages": []}


def test_bars_of_the_funnel_are_as_long_as_what_is_left() -> None:
    whole = funnel_examples.whole()
    picture = funnel_drawing(whole).picture
    assert picture is not None
    bars = [float(bar.get("width", "")) for bar in picture.iter("rect") if "ink-1" in bar.get("class", "")]
    assert [bar / bars[0] for bar in bars] == pytest.approx([stage.after.documents / 10_120 for stage in whole.stages], abs=1e-3)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = report_browser.installed()
    if program is None:
        pytest.skip("no Chromium on this machine")
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true })"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1400])
@every
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(browser: Browser, make: Make, width: int, tmp_path: Path) -> None:
    file = write_report(make(), tmp_path)[0]
    browser.open(file, width)
    browser.value(OPEN)
    assert browser.value("document.documentElement.scrollWidth") == browser.value("innerWidth") == width
    assert browser.complaints() == []
    assert [request for request in browser.requests() if not request.startswith("data:")] == [file.resolve().as_uri()]
    assert browser.value(OVERLAPS) == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_the_contrast_that_readers_need_by_day_and_by_night(browser: Browser, dark: bool, tmp_path: Path) -> None:
    browser.open(write_report(funnel_examples.whole(), tmp_path)[0], 1400, dark=dark)
    browser.value(OPEN)
    assert browser.value(CONTRAST) >= 4.5
