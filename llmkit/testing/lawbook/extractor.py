"""Laws of extractors. Plain Python: no torch."""

from __future__ import annotations

from llmkit.core.interfaces.extractor import Extractor
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.corpus import PROSE
from llmkit.testing.subject import Subject

HIDDEN = "hiddenVariable"
PARAGRAPHS = PROSE.split("\n\n")
PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><title>The light on the point</title><meta charset="utf-8">
<style>.{HIDDEN} {{ color: red }}</style><script>var {HIDDEN} = 1;</script></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li></ul></nav>
<main><article><h1>The light on the point</h1>
{"".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)}
</article></main><footer>All rights reserved.</footer></body></html>"""
BROKEN = (
    "",
    " ",
    "no tag at all",
    "<",
    "<p",
    "<p>never closed",
    "</p></p></html>",
    "<html><body></body></html>",
    "<!-- only a comment -->",
    "<p>\0</p>",
    "<p>naïve 世界 \u202eمرحبا</p>",  # noqa: RUF001
    "<a href='" + "x" * 10_000 + "'>",
    "<div>" * 2_000,
    "<script>while(1);</script>",
    "&#xD800;&#1114112;&bogus;&amp",
    "<?xml version='1.0'?><feed><entry/></feed>",
    PAGE[: len(PAGE) // 2],
    PAGE.replace("</", "<"),
)


def what_a_reader_came_for_is_found(subject: Subject) -> None:
    """The paragraphs of an article are in the text of its page, in their order, and no tag is."""
    text = _made(subject).extract(PAGE, "https://example.org/light")
    flat = " ".join(text.split())
    places = [flat.find(" ".join(paragraph.split())) for paragraph in PARAGRAPHS]
    if -1 in places:
        raise LawBroken(f"paragraph {places.index(-1)} is not in {text!r}")
    if places != sorted(places):
        raise LawBroken(f"the paragraphs are in another order in {text!r}")
    if "<p>" in text or "</" in text:
        raise LawBroken(f"there is a tag in {text!r}")


def what_no_reader_sees_is_left_out(subject: Subject) -> None:
    """Scripts and styles are not in the text of a page."""
    text = _made(subject).extract(PAGE)
    if HIDDEN in text:
        raise LawBroken(f"{HIDDEN!r}, of the page's script or style, is in {text!r}")


def every_page_is_survived(subject: Subject) -> None:
    """Whatever is broken in a page, the answer is a text, if only the empty one."""
    made = _made(subject)
    for page in BROKEN:
        text = made.extract(page)
        if not isinstance(text, str):
            raise LawBroken(f"extract({page[:60]!r}) is {text!r}")


def the_same_page_has_the_same_text(subject: Subject) -> None:
    """Asked twice, with other pages between, and of another copy, the text is the same."""
    made = _made(subject)
    first = [made.extract(page) for page in (PAGE, *BROKEN)]
    again = [made.extract(page) for page in reversed((PAGE, *BROKEN))][::-1]
    elsewhere = [_made(subject).extract(page) for page in (PAGE, *BROKEN)]
    for page, one, two, three in zip((PAGE, *BROKEN), first, again, elsewhere, strict=True):
        if not one == two == three:
            raise LawBroken(f"extract({page[:60]!r}) is {one!r}, then {two!r}, of another copy {three!r}")


def _made(subject: Subject) -> Extractor:
    made: Extractor = subject.make()
    return made


LAWS = (
    Law(what_a_reader_came_for_is_found),
    Law(what_no_reader_sees_is_left_out),
    Law(every_page_is_survived),
    Law(the_same_page_has_the_same_text),
)
