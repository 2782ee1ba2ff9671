"""The main content of a page, by resiliparse."""

from __future__ import annotations

from resiliparse.extract.html2text import extract_plain_text

from llmkit.core.interfaces.extractor import Extractor


class Resiliparse(Extractor):
    """Rules over the tree of the page (Bevendorff et al., ECIR 2018)."""

    def extract(self, html: str, address: str = "") -> str:
        return str(extract_plain_text(html, main_content=True)).strip()
