"""The deduplicators that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind


class ExactParams(Params):
    """Parameters of `exact`."""

    ignore_case: bool = Field(False, description="whether texts that differ only in upper and lower case are the same", examples=[True])
    ignore_whitespace: bool = Field(
        False, description="whether any run of spaces and line ends is one space, and none at the ends", examples=[True]
    )


class UnitParams(Params):
    """Parameters of `paragraphs` and `lines`."""

    min_length: PositiveInt = Field(
        50, description="characters of the shortest that is ever cut, spaces at its ends not counted", examples=[1]
    )
    ignore_case: bool = Field(False, description="whether those that differ only in upper and lower case are the same")


class MinHashParams(Params):
    """Parameters of `minhash`: FineWeb's unless given (arXiv 2406.17557, section 3.4)."""

    words: int = Field(
        5, ge=1, le=100, description="words of a shingle: documents are compared by the runs of so many words that they share"
    )
    bands: int = Field(14, ge=1, le=1000, description="bands of the signature: documents that agree on a whole band are candidates")
    rows: int = Field(8, ge=1, le=100, description="permutations in a band: more find fewer candidates of low similarity")
    threshold: float | None = Field(
        0.75,
        ge=0,
        le=1,
        description="least Jaccard similarity of two duplicates; null takes every candidate, as FineWeb does",
        examples=[None],
    )
    sample: int = Field(
        1024,
        ge=16,
        description="shingles that a document keeps for the verification, of least hash: exact for one that has no more, else an estimate "
        "with a deviation of at most 0.5 / sqrt(sample)",
        examples=[16],
    )
    keep: Literal["first", "longest"] = Field(
        "first", description="which copy of a cluster stays: the one that comes first, or the longest in bytes", examples=["longest"]
    )
    seed: NonNegativeInt = Field(0, description="which permutations")


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    here = "llmkit.plugins.deduplicators"
    return [
        Component(Kind.deduplicator, "exact", ExactParams, f"{here}.exact:Exact", "documents whose text an earlier one has"),
        Component(Kind.deduplicator, "lines", UnitParams, f"{here}.units:Lines", "cuts lines that an earlier document has"),
        Component(
            Kind.deduplicator,
            "minhash",
            MinHashParams,
            f"{here}.minhash:MinHash",
            "documents that share most of their word n-grams with another: MinHash LSH, verified, by connected components",
        ),
        Component(Kind.deduplicator, "paragraphs", UnitParams, f"{here}.units:Paragraphs", "cuts paragraphs that an earlier document has"),
    ]
