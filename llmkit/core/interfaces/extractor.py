"""Extractors: the text of a page."""

from __future__ import annotations

from typing import Any, ClassVar


class Extractor:
    """What a reader came for, out of a page of HTML: built with `(params)`, plain Python, no torch.

    A whole one, with the component that its plugin's hook returns:

        class HeadingsParams(Params):
            pass

        class Headings(Extractor):
            def extract(self, html: str, address: str = "") -> str:
                return "\\n".join(re.findall(r"<h[1-6][^>]*>([^<]*)</h", html))

        Component(Kind.extractor, "acme.headings", HeadingsParams, "llmkit_acme.headings:Headings", "the headings of a page")
    """

    package: ClassVar[str] = ""
    """The distribution whose version decides what the text of a page is: pages are read anew where another is installed."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def extract(self, html: str, address: str = "") -> str:
        """The text of a page, paragraphs apart by line ends; empty where there is none to be found.

        html     the page, already decoded
        address  its URL where it is known, for what depends on the site

        A pure function; it raises for no input, however broken the page.
        """
        raise NotImplementedError
