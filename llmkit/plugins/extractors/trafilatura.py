"""The main text of a page, by trafilatura."""

from __future__ import annotations

import logging

from llmkit.core.errors import UserError
from llmkit.core.interfaces.extractor import Extractor
from llmkit.plugins.extractors.components import TrafilaturaParams

TALKERS = ("trafilatura", "htmldate", "justext")


class Trafilatura(Extractor):
    """Rules by XPath, and where they find little, jusText and readability (Barbaresi, Trafilatura, ACL 2021: 2021.acl-demo.15).

    Raises `UserError` where trafilatura is not installed.
    """

    package = "trafilatura"
    params: TrafilaturaParams

    def __init__(self, params: TrafilaturaParams) -> None:
        super().__init__(params)
        try:
            from trafilatura import extract
        except ImportError as error:
            raise UserError(f"extractor trafilatura cannot be used ({error}); pip install 'llmkit[data]'") from None
        for name in TALKERS:
            # What it logs of every page without text would fill the terminal: such pages are counted in the funnel.
            logging.getLogger(name).addHandler(logging.NullHandler())
        self._extract = extract

    def extract(self, html: str, address: str = "") -> str:
        params = self.params
        text = self._extract(
            html,
            url=address or None,
            fast=params.fast,
            favor_precision=params.favour == "precision",
            favor_recall=params.favour == "recall",
            include_comments=params.comments,
            include_tables=params.tables,
            include_links=params.links,
            output_format="markdown" if params.markdown else "txt",
        )
        return (text or "").strip()
