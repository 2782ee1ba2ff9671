"""The main content of a page, by resiliparse."""

from __future__ import annotations

from llmkit.core.errors import UserError
from llmkit.core.interfaces.extractor import Extractor
from llmkit.plugins.extractors.components import ResiliparseParams


class Resiliparse(Extractor):
    """Rules over the tree of the page, names of its classes above all (Bevendorff et al., Elastic ChatNoir, ECIR 2018).

    Raises `UserError` where resiliparse is not installed, and for a selector that is none.
    """

    package = "resiliparse"
    params: ResiliparseParams

    def __init__(self, params: ResiliparseParams) -> None:
        super().__init__(params)
        try:
            from resiliparse.extract.html2text import extract_plain_text
            from resiliparse.parse.html import CSSParserException, HTMLParserException
        except ImportError:
            raise UserError("extractor resiliparse needs the package of that name; pip install 'llmkit[data]'") from None
        self._plain_text = extract_plain_text
        self._no_page: type[Exception] = HTMLParserException
        try:
            self.extract("<p>a page</p>")
        except CSSParserException as error:
            raise UserError(f"extractor resiliparse: skip {params.skip} has a selector that is none: {error}") from error

    def extract(self, html: str, address: str = "") -> str:
        params = self.params
        try:
            text = self._plain_text(
                html,
                main_content=params.main_content,
                comments=params.comments,
                links=params.links,
                alt_texts=params.alt_texts,
                list_bullets=params.list_bullets,
                skip_elements=params.skip or None,
            )
        except self._no_page:
            return ""
        return str(text).strip()
