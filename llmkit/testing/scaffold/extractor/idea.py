"""The paragraphs of a page: what stands in `<p>`, and in headings."""

from __future__ import annotations

from html.parser import HTMLParser

from llmkit import Extractor
from llmkit.testing.scaffold.extractor import IdeaParams

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


class Idea(Extractor):
    """A page is read from its beginning to its end; what is in no paragraph is left out."""

    params: IdeaParams

    def extract(self, html: str, address: str = "") -> str:
        """The text, a line a paragraph; it never raises, however broken the page."""
        reader = Paragraphs(HEADINGS | {"p"} if self.params.headings else frozenset({"p"}))
        reader.feed(html)
        reader.close()
        return "\n".join(text for text in map(" ".join, map(str.split, reader.texts)) if text)


class Paragraphs(HTMLParser):
    """Collects the text of some elements."""

    def __init__(self, wanted: frozenset[str]) -> None:
        super().__init__()
        self.wanted, self.texts, self.inside = wanted, [""], False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A new paragraph begins where a wanted element does, and where any other ends it."""
        self.inside = tag in self.wanted
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        """What follows an element is not of it."""
        if tag in self.wanted:
            self.inside = False

    def handle_data(self, data: str) -> None:
        """Text, in pieces."""
        if self.inside:
            self.texts[-1] += data
