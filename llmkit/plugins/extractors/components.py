"""The extractors that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class ResiliparseParams(Params):
    """Parameters of `resiliparse`."""


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
            "the main content of a page, by resiliparse",
        ),
    ]
