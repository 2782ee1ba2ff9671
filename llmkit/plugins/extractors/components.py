"""The extractors that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class ResiliparseParams(Params):
    """Parameters of `resiliparse`."""

    main_content: bool = Field(True, description="leave out what looks like navigation, sidebars and footers; else all that is visible")
    comments: bool = Field(False, description="whether readers' comments belong to the main content")
    links: bool = Field(False, description="whether a link's address stands behind its words")
    alt_texts: bool = Field(False, description="whether what stands for an image is text")
    list_bullets: bool = Field(True, description="whether items of lists begin with a bullet or their number")
    skip: list[str] = Field(
        default_factory=list, description="CSS selectors of elements that are left out", examples=[[".advert", "aside"]]
    )


class TrafilaturaParams(Params):
    """Parameters of `trafilatura`."""

    favour: Literal["balance", "precision", "recall"] = Field(
        "balance", description="what is done where it is not sure: precision leaves out, recall keeps", examples=["precision", "recall"]
    )
    fast: bool = Field(
        True, description="whether to go without a second opinion (jusText, readability) where little was found", examples=[False]
    )
    comments: bool = Field(False, description="whether readers' comments are text")
    tables: bool = Field(True, description="whether what stands in tables is text")
    links: bool = Field(False, description="whether a link's address stands behind its words")
    markdown: bool = Field(False, description="whether headings, lists and emphasis are written as Markdown", examples=[True])


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    here = "llmkit.plugins.extractors"
    return [
        Component(
            Kind.extractor,
            "resiliparse",
            ResiliparseParams,
            f"{here}.resiliparse:Resiliparse",
            "rules over a page's tree, compiled: many times as fast, with more of what is around the text (ECIR 2018)",
        ),
        Component(
            Kind.extractor,
            "trafilatura",
            TrafilaturaParams,
            f"{here}.trafilatura:Trafilatura",
            "a page's main text with the least around it, by rules and second opinions (ACL 2021)",
        ),
    ]
