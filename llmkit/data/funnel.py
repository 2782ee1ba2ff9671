"""The funnel: what each stage of preparing data did, as it is written to `funnel.json` and read by the report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Removal = Literal["dropped", "rewritten", "broken"]


class Record(BaseModel):
    """A part of the funnel: frozen, nothing extra."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Amount(Record):
    """documents; bytes of UTF-8; tokens, exact where the tokens were written, else estimated from a sample's bytes a token."""

    documents: int
    bytes: int
    tokens: int | None = None
    estimated: bool = False


class Stage(Record):
    """One stage.

    stage      its address: `read`, `extract`, `filters.<name>`, `deduplicators.<name>`, `split`, `tokenize`
    type       the component; empty where it is none
    before, after  what went in and what came out
    removed    documents dropped
    rewritten  documents that stayed with another text
    reasons    why documents were dropped -> how many
    only       documents that this filter drops and no later one would have
    shared     a later filter -> documents that both drop: each filter sees also what an earlier one dropped
    by_source  the name of a source -> (before, after)
    figures    what `learn` reported: a classifier's held-out accuracy
    seconds    of processor time, over all processes
    """

    stage: str
    type: str = ""
    before: Amount
    after: Amount
    removed: int = 0
    rewritten: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    only: int | None = None
    shared: dict[str, int] = Field(default_factory=dict)
    by_source: dict[str, tuple[Amount, Amount]] = Field(default_factory=dict)
    figures: dict[str, object] = Field(default_factory=dict)
    seconds: float = 0.0


class Sample(Record):
    """Something that was removed, to be read by a person.

    text   the document as it came in, cut to its first characters
    after  the document as it went on, where it was rewritten
    """

    stage: str
    removal: Removal
    reason: str
    id: str
    source: str
    text: str
    after: str | None = None
    value: float | None = None
    limit: float | None = None


class Sensitivity(Record):
    """What another threshold would have dropped, on a sample of the documents that reached this filter.

    parameter, statistic  as the filter's `Limit` says
    least, most           the threshold in use
    values                100 values of the statistic at even steps of probability, ascending: its quantile function
    n                     documents in the sample
    """

    stage: str
    parameter: str
    statistic: str
    least: float | None
    most: float | None
    values: list[float]
    n: int


class Curve(Record):
    """One point of a fuzzy deduplicator's measured curve: pairs of this Jaccard similarity, and how many of them were found.

    low, high  the interval of similarity
    pairs      pairs of the sample in it
    found      those that the deduplicator put into one cluster
    expected   the part that theory predicts
    """

    low: float
    high: float
    pairs: int
    found: int
    expected: float | None


class Audit(Record):
    """A deduplicator against exact Jaccard similarity on a sample.

    threshold  pairs of this similarity and more are duplicates
    recall     duplicates that were found, of all; None where there are none
    precision  found pairs that are duplicates, of all found; None where none was found
    """

    documents: int
    threshold: float
    duplicates: int
    found: int
    recall: float | None
    precision: float | None
    curve: list[Curve]


class Clusters(Record):
    """What a deduplicator found.

    sizes     how large a cluster is -> how many there are, of two and more
    largest   samples of the largest clusters: ids of their documents, the keeper first
    audit     None where the deduplicator estimates no similarity
    """

    stage: str
    sizes: dict[int, int]
    largest: list[list[str]] = Field(default_factory=list)
    audit: Audit | None = None


class Share(Record):
    """One source in what is trained on.

    proportion  of the trained tokens
    available   of all tokens that there are
    epochs      how often the source is read through by the spec's `train.tokens`
    """

    source: str
    documents: int
    bytes: int
    tokens: int
    proportion: float
    available: float
    epochs: float | None = None


class Funnel(Record):
    """Everything.

    name        of the spec
    stages      in their order
    broken      reason -> records that were no documents
    lengths     bytes of a kept document: upper bounds of the bins (powers of two) -> documents
    languages   language code -> kept documents of a sample; empty where no language was identified
    """

    llmkit: str
    name: str
    fingerprint: str
    stages: list[Stage]
    samples: list[Sample] = Field(default_factory=list)
    sensitivities: list[Sensitivity] = Field(default_factory=list)
    clusters: list[Clusters] = Field(default_factory=list)
    shares: list[Share] = Field(default_factory=list)
    broken: dict[str, int] = Field(default_factory=dict)
    lengths: dict[int, int] = Field(default_factory=dict)
    languages: dict[str, int] = Field(default_factory=dict)


FUNNEL = "funnel.json"
