"""Pages of HTML in files."""

from __future__ import annotations

from pathlib import Path

from llmkit.core.interfaces.source import HTML, Document
from llmkit.plugins.sources.blocks import Unreadable, blocks_of
from llmkit.plugins.sources.charset import page_text
from llmkit.plugins.sources.components import HtmlParams
from llmkit.plugins.sources.files import Files, Records, broken, held_whole
from llmkit.plugins.sources.pieces import whole


class Html(Files):
    """A page a file. A document's id is the path; its text is the page, of which an extractor makes text."""

    called = "html"
    pattern = "*.html"
    package = "resiliparse"
    params: HtmlParams

    def read(self, path: Path) -> Records:
        piece = whole(blocks_of(path), 0, self.params.max_bytes)
        try:
            held_whole(piece)
            page = page_text(piece.data)
        except Unreadable as error:
            yield broken(str(path), error, piece.data)
            return
        yield Document(str(path), page, "html", self.params.licence, media_type=HTML)
