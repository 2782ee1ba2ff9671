"""Filters that learn, look something up, or redact: parameters. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from llmkit.core.component import Chosen, Component
from llmkit.core.interfaces.filter import FilterParams
from llmkit.core.kinds import Kind
from llmkit.core.slot import Slot

Value = str | int | bool
"""What a document's `meta` is compared with; as strings, since some files hold nothing else."""


class QualityParams(FilterParams):
    """Parameters of `quality`."""

    positive: Annotated[Chosen, Slot(Kind.source)] = Field(
        description="text that is wanted",
        examples=[{"type": "synthetic", "task": "copying", "documents": 60}],
    )
    negative: Annotated[Chosen, Slot(Kind.source)] = Field(
        description="text that is not wanted, or the background that what is wanted shall be told from; the same source as `positive` "
        "where labels tell them apart",
        examples=[{"type": "synthetic", "task": "dyck", "documents": 60}],
    )
    positive_where: dict[str, Value] = Field(
        default_factory=dict, description="only documents of `positive` whose meta has these values, such as {label: 1}"
    )
    negative_where: dict[str, Value] = Field(
        default_factory=dict, description="only documents of `negative` whose meta has these values, such as {label: 0}"
    )
    extractor: Annotated[Chosen, Slot(Kind.extractor)] | None = Field(
        None, description="what makes text of pages of HTML, where `positive` or `negative` yields them"
    )
    examples: PositiveInt = Field(
        10_000,
        description="documents of each side that are learned from: the first so many. Learning holds some 55 bytes for each n-gram that a "
        "document has, 0.23 MB for 3,000 characters: 5 GB where both sides have so many of that length",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="probability to be wanted that a document must have")
    keep: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="part of `negative` that the filter would keep, by text that it has not learned from; it sets the threshold instead",
    )
    characters: NonNegativeInt = Field(4, le=8, description="runs of 1 up to so many bytes are features; 0 for none")
    words: NonNegativeInt = Field(2, le=5, description="runs of 1 up to so many words are features; 0 for none", examples=[1])
    bits: int = Field(18, ge=8, le=24, description="features are hashed into 2 to this power of weights")
    c: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="inverse strength of the penalty on the weights' squares, as scikit-learn counts it"
    )
    folds: int = Field(5, ge=2, description="parts of the examples that are held out in turn, to calibrate and to report")
    read: PositiveInt = Field(50_000, description="characters of a document that are looked at: its first ones")
    seed: NonNegativeInt = Field(0, description="which example is in which fold")

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if not self.characters and not self.words:
            raise ValueError("characters and words are both 0, which leaves nothing to look at; raise one of them")
        return self


class ToxicityParams(FilterParams):
    """Parameters of `toxicity`."""

    words: PositiveInt = Field(40, description="words of a passage: each is judged by itself, so that a book is held to what a tweet is")
    probability: float = Field(0.8, gt=0, le=1, description="a passage is toxic from this probability on", examples=[0.5])
    most: float = Field(0.1, ge=0, le=1, description="part of a document's passages that may be toxic")


class PiiParams(FilterParams):
    """Parameters of `pii`."""

    email: str | None = Field("<EMAIL>", description="what is written instead of an address of electronic mail; null leaves them alone")
    ip: str | None = Field(
        "<IP>", description="instead of a public IP address, of version 4 or 6; private and reserved ones stay; null leaves all alone"
    )
    phone: str | None = Field(
        "<PHONE>",
        description="instead of a phone number: an international one, one of ten digits as North America writes it, or any behind "
        "a word such as tel; null leaves them alone",
    )
    card: str | None = Field(
        "<CARD>", description="instead of a payment card's number, of a known brand and with a right check digit; null leaves them alone"
    )


class DecontaminateParams(FilterParams):
    """Parameters of `decontaminate`."""

    n: int = Field(13, ge=2, description="words of a run that an item and a document have in common; a shorter item is looked for whole")
    shortest: int = Field(
        20,
        ge=8,
        description="letters and digits that a run must have, counted in bytes of UTF-8 (a Chinese character is three): one with fewer "
        "grows by further words, an item with fewer is not looked for",
    )
    common: PositiveInt | None = Field(
        10,
        description="a run that more items than so many have is the questionnaire's and not an item's: it is not looked for; null for any",
    )
    most: float = Field(0.0, ge=0, lt=1, description="part of an item's runs that a document may have")
    most_held_out: float = Field(
        0.1, ge=0, lt=1, description="part of a held-out document's runs that it may have: two long texts have some run in common by chance"
    )
    policy: Literal["drop", "cut"] = Field(
        "drop", description="drop: leave out the document. cut: only the runs, with `margin`", examples=["cut"]
    )
    margin: NonNegativeInt = Field(
        200,
        description="characters on both sides that a cut takes along; what is left between cuts stays if it is longer (arXiv 2005.14165)",
    )


_HERE = "llmkit.plugins.filters"

COMPONENTS: tuple[Component, ...] = (
    Component(
        Kind.filter,
        "quality",
        QualityParams,
        f"{_HERE}.quality:Quality",
        "keeps what a classifier takes for wanted: logistic regression on n-grams, learned from your own examples",
    ),
    Component(
        Kind.filter,
        "toxicity",
        ToxicityParams,
        f"{_HERE}.toxicity:Toxicity",
        "drops offensive text, by the classifier of alt-profanity-check, passage by passage",
    ),
    Component(
        Kind.filter,
        "pii",
        PiiParams,
        f"{_HERE}.pii:Pii",
        "writes tags instead of e-mail addresses, public IP addresses, phone numbers and card numbers",
    ),
    Component(
        Kind.filter,
        "decontaminate",
        DecontaminateParams,
        f"{_HERE}.decontaminate:Decontaminate",
        "finds the evaluators' own items and the held-out text, through changes of case, punctuation and spacing",
    ),
)
