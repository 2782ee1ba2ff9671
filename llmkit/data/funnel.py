"""The funnel: what each stage of preparing data did, as it is written to `funnel.json` and read by the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmkit.core.errors import UserError
from llmkit.core.finite import finite
from llmkit.data.durable import told, write_whole

FUNNEL = "funnel.json"
CLEANED = ("read", "extract", "filters", "deduplicators")
"""The first words of the stages that decide which documents are kept."""


def _without_gaps(values: object) -> object:
    """A statistic that is no number for a document is not among its values."""
    if not isinstance(values, list | tuple):
        return values
    return [value for value in values if value is not None and not (isinstance(value, float) and not math.isfinite(value))]


def _encodable(text: str) -> str:
    """Half a pair of UTF-16 cannot be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Number = Annotated[float | None, BeforeValidator(finite)]
Numbers = Annotated[list[float], BeforeValidator(_without_gaps)]
Figures = Annotated[dict[str, object], BeforeValidator(finite)]
Text = Annotated[str, AfterValidator(_encodable)]

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
    shared     a later filter's name -> documents of `removed` that it drops as well: each filter sees also what an earlier one dropped
    by_source  the name of a source -> (before, after)
    sources    those that it looks at, where it does not look at all of them
    figures    what `learn` reported: a classifier's held-out accuracy; of `split`, both sides as amounts: `train`, `validation`
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
    sources: list[str] = Field(default_factory=list)
    figures: Figures = Field(default_factory=dict)
    seconds: float = 0.0

    @property
    def seen(self) -> int:
        """How many documents it looked at: what came in from its sources."""
        if not self.sources:
            return self.before.documents
        return sum(before.documents for source, (before, _) in self.by_source.items() if source in self.sources)


class Sample(Record):
    """Something that was removed, to be read by a person.

    text   the document as it came in, cut to its first characters
    after  the document as it went on, where it was rewritten
    keeper the id of the copy that stays, where it was dropped as a duplicate
    """

    stage: str
    removal: Removal
    reason: Text
    id: Text
    source: Text
    text: Text
    after: Text | None = None
    keeper: Text | None = None
    value: Number = None
    limit: Number = None


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
    least: Number
    most: Number
    values: Numbers
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
    expected: Number


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
    recall: Number
    precision: Number
    curve: list[Curve]


class Clusters(Record):
    """What a deduplicator found.

    sizes     how large a cluster is -> how many there are, of two and more
    largest   samples of the largest clusters: ids of their documents, the keeper first
    audit     None where the deduplicator estimates no similarity
    """

    stage: str
    sizes: dict[int, int]
    largest: list[list[Text]] = Field(default_factory=list)
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
    epochs: Number = None


class Funnel(Record):
    """Everything.

    name          of the spec
    stages        in their order
    broken        reason -> records that were no documents
    lengths       bytes of a kept document: upper bounds of the bins (powers of two) -> documents
    lengths_read  the same of the documents as they came out of `extract`
    languages     language code -> kept documents of a sample; empty where no language was identified
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
    lengths_read: dict[int, int] = Field(default_factory=dict)
    languages: dict[str, int] = Field(default_factory=dict)

    @property
    def read(self) -> Amount:
        """What came out of the sources, before anything was done to it."""
        return self.stages[0].after if self.stages else Amount(documents=0, bytes=0)

    @property
    def cleaning(self) -> list[Stage]:
        """The stages that decide which documents are kept: those before the split."""
        return [stage for stage in self.stages if stage.stage.partition(".")[0] in CLEANED]

    @property
    def kept(self) -> Amount:
        """What the last filter and the last deduplicator left, on both sides of the split."""
        return self.cleaning[-1].after if self.cleaning else self.read

    @property
    def sides(self) -> dict[str, Amount]:
        """What is trained on and what is held out, as the split's figures say; empty where they say nothing."""
        figures = next((stage.figures for stage in self.stages if stage.stage == "split"), {})
        return {name: Amount.model_validate(side) for name, side in figures.items() if isinstance(side, dict) and "documents" in side}

    def document(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        last = self.stages[-1].after if self.stages else self.read
        return {
            "name": self.name,
            "documents": self.read.documents,
            "kept": self.kept.documents,
            "bytes": self.kept.bytes,
            "tokens": None if last.estimated else last.tokens,
            "stages": [_row(stage) for stage in self.stages],
            "broken": self.broken,
        }


def write_funnel(funnel: Funnel, directory: Path) -> Path:
    """Write `funnel.json`, as a whole. `UserError` where the directory cannot be written to."""
    path = directory / FUNNEL
    with told(f"the funnel in {str(directory)!r}"):
        write_whole(path, funnel.model_dump_json(indent=1) + "\n")
    return path


def read_funnel(directory: Path) -> Funnel:
    """Read the `funnel.json` of a directory. `UserError` where it is none that `llmkit data prepare` wrote."""
    path = directory / FUNNEL
    remedy = "give the directory that `llmkit data prepare SPEC --out DIR` wrote"
    if not directory.is_dir():
        raise UserError(f"{str(directory)!r} {'is a file and no directory' if directory.exists() else 'does not exist'}; {remedy}")
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{str(directory)!r} has no {FUNNEL}; {remedy}") from None
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    try:
        return Funnel.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(f"{str(path)!r} is no funnel that this llmkit reads ({what}); prepare the data again") from None


def _row(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "type": stage.type,
        "sources": stage.sources or None,
        "in": stage.before.documents,
        "out": stage.after.documents,
        "removed": stage.removed,
        "rewritten": stage.rewritten,
        "bytes_in": stage.before.bytes,
        "bytes_out": stage.after.bytes,
        "tokens_in": stage.before.tokens,
        "tokens_out": stage.after.tokens,
        "estimated": stage.before.estimated or stage.after.estimated,
        "reasons": stage.reasons,
        "only": stage.only,
        "seconds": stage.seconds,
    }
