"""What became of the text, in sentences: the same ones in the page and in the Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from llmkit.data.funnel import Amount, Funnel, Sample, Stage
from llmkit.data.report.thresholds import dropped_at, dropped_in_use, moved
from llmkit.typeset.digits import MINUS, count, given, portion, quantity
from llmkit.typeset.sentence import Named, Sentence, joined, many
from llmkit.typeset.visible import one_line

ABOUT = "\u2248\u202f"
"""Before what was estimated."""

HALF = 0.5
"""The part of what comes in that a stage seldom drops for a good reason."""

LOST = 0.1
"""A source of which less is left has as good as gone."""

BROKEN = 0.01
"""The part of the records beyond which broken ones are no accident."""

STEEP = 0.02
"""The part of the documents that a tenth more or less of a threshold should not decide about."""

MISSED = 0.9
"""A recall or a precision below this is worth a look at the bands."""

REPEATED = 4.0
"""Epochs beyond which reading a text again is worth much less than new text (Muennighoff et al. 2023, arXiv:2305.16264)."""

HELD_OUT = 5_000
"""Tokens of validation text below which a loss on it says little."""

LISTED = 3
"""Stages that the first sentence names, and sentences of a kind about what to look at."""


def byline(funnel: Funnel) -> str:
    """The report in a line."""
    filters, deduplicators = (len(stages_of(funnel, kind)) for kind in ("filters", "deduplicators"))
    told = [many(len(sources(funnel)), "source") if sources(funnel) else "", many(filters, "filter"), many(deduplicators, "deduplicator")]
    return " \u00b7 ".join(filter(None, ["what became of the text", *told]))


def summary(funnel: Funnel) -> list[Sentence]:
    """How much was read and is left, and where most of it went."""
    read, kept = funnel.read, funnel.kept
    if not read.documents:
        return [["No document was read."]]
    told: list[Sentence] = [
        ["Of ", Named(many(read.documents, "document")), f" that {'was' if read.documents == 1 else 'were'} read ({bytes_words(read)}), "],
        [Named(count(kept.documents)), f" {_is(kept.documents)} kept, {portion(kept.documents, read.documents)}: {amount_words(kept)}."],
    ]
    first: Sentence = [piece for sentence in told for piece in sentence]
    most = sorted((stage for stage in funnel.stages[1:] if stage.removed), key=lambda stage: -stage.removed)[:LISTED]
    if not most:
        return [first, ["Nothing was dropped."]]
    named = joined([[Named(stage.stage), f" ({count(stage.removed)})"] for stage in most])
    return [first, ["Most went at ", *named, "."]]


def notices(funnel: Funnel) -> list[Sentence]:
    """What a reader should look at before believing the numbers."""
    every = (_broken, _heavy, _idle, _needless, _steep, _gone, _unfound, _repeated, _thin)
    return [sentence for told in every for sentence in _first(list(told(funnel)))]


def stages_of(funnel: Funnel, kind: str) -> list[Stage]:
    """The stages whose address begins with a word: `filters`, `deduplicators`."""
    return [stage for stage in funnel.stages if stage.stage.partition(".")[0] == kind]


def sources(funnel: Funnel) -> list[str]:
    """Every source that some stage tells apart, in the spec's order."""
    return list(dict.fromkeys(source for stage in funnel.stages for source in stage.by_source))


def families(reasons: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Reasons by what stands before their first colon, where several begin so (`mmlu:17`, `mmlu:40`), else by themselves.

    The commonest come first, among families as within one.
    """
    prefixes = Counter(reason.partition(":")[0] for reason in reasons if ":" in reason)
    found: dict[str, dict[str, int]] = {}
    for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        first, colon, _ = reason.partition(":")
        found.setdefault(first if colon and prefixes[first] > 1 else reason, {})[reason] = number
    return dict(sorted(found.items(), key=lambda item: -sum(item[1].values())))


def bytes_words(amount: Amount) -> str:
    """Its bytes, in three digits."""
    return quantity(amount.bytes, "B")


def tokens_words(amount: Amount) -> str:
    """Its tokens, marked where they were estimated; empty where nobody counted."""
    if amount.tokens is None:
        return ""
    return (ABOUT if amount.estimated else "") + quantity(amount.tokens)


def amount_words(amount: Amount) -> str:
    """Its bytes and tokens."""
    return ", ".join(filter(None, [bytes_words(amount), f"{tokens} tokens" if (tokens := tokens_words(amount)) else ""]))


def held_words(sample: Sample) -> str:
    """What was measured of a sample and what it was held against: `12, limit 50`."""
    told = [given(sample.value, 4) if sample.value is not None else ""]
    told.append(f"limit {given(sample.limit)}" if sample.limit is not None else "")
    return ", ".join(filter(None, told))


def left_words(stage: Stage) -> str:
    """What a stage took away: `\u2212880 (8.8%), 12 rewritten`; what it set aside without dropping it was held out."""
    gone = stage.before.documents - stage.after.documents
    told = [f"{MINUS}{count(gone)} ({portion(gone, stage.seen)})" if stage.removed else ""]
    told.append(f"{count(gone)} held out" if gone > 0 and not stage.removed else "")
    told.append(f"{count(stage.rewritten)} rewritten" if stage.rewritten else "")
    return ", ".join(filter(None, told))


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _first(told: list[Sentence]) -> list[Sentence]:
    """The first few of a kind, and how many more there are."""
    more = len(told) - LISTED
    return [*told[:LISTED], [f"And {count(more)} more like these, below."]] if more > 0 else told


def _broken(funnel: Funnel) -> Iterator[Sentence]:
    number = sum(funnel.broken.values())
    records = number + funnel.read.documents
    if number > BROKEN * records:
        reason = one_line(max(funnel.broken, key=lambda key: funnel.broken[key]))
        told = f" of all records ({count(number)}) could not be read, most of them because: {reason}. Is it the right kind of file?"
        yield [Named(portion(number, records)), told]


def _heavy(funnel: Funnel) -> Iterator[Sentence]:
    for stage in funnel.stages:
        if stage.removed <= HALF * stage.seen:
            continue
        of = f" from {' and '.join(stage.sources)}" if stage.sources else ""
        told = f" drops {portion(stage.removed, stage.seen)} of what reaches it{of}"
        reasons = list(families(stage.reasons))[:1]
        yield [Named(stage.stage), told, *(f", mostly for {one_line(reason)}" for reason in reasons), ": read its samples."]


def _idle(funnel: Funnel) -> Iterator[Sentence]:
    idle = [
        stage for stage in stages_of(funnel, "filters") + stages_of(funnel, "deduplicators") if not stage.removed and not stage.rewritten
    ]
    if idle and funnel.read.documents:
        one = " changes nothing in this text: what it looks for is not there, or it does not find it."
        several = " change nothing in this text: what they look for is not there, or they do not find it."
        yield [*joined([[Named(stage.stage)] for stage in idle]), one if len(idle) == 1 else several]


def _needless(funnel: Funnel) -> Iterator[Sentence]:
    needless = [stage for stage in stages_of(funnel, "filters") if stage.only == 0 and stage.removed and not stage.rewritten]
    if needless:
        named = joined([[Named(stage.stage)] for stage in needless])
        yield ["Every document that ", *named, f" {'drops' if len(needless) == 1 else 'drop'}, another filter drops as well."]


def _steep(funnel: Funnel) -> Iterator[Sentence]:
    """The thresholds about which a tenth more decides most, the steepest first."""
    drops = [(one, dropped_in_use(one), dropped_at(one, *moved(one, 0.1))) for one in funnel.sensitivities if one.values]
    steep = sorted((drop for drop in drops if drop[2] - drop[1] > STEEP), key=lambda drop: drop[1] - drop[2])
    for one, here, stricter in steep:
        would = f"it would drop {portion(stricter, 1)} instead of {portion(here, 1)}"
        yield [Named(one_line(one.parameter)), f" of {one.stage} stands on a slope: a tenth stricter, {would}."]


def _gone(funnel: Funnel) -> Iterator[Sentence]:
    if not funnel.stages or len(sources(funnel)) < 2:
        return
    kept = {source: stage.by_source[source][1].documents for stage in funnel.cleaning for source in stage.by_source}
    for source, (_, read) in funnel.stages[0].by_source.items():
        if read.documents and kept.get(source, read.documents) < LOST * read.documents:
            left = f"only {count(kept[source])}" if kept[source] else "none"
            yield ["Of the source ", Named(source), f" {left} of {many(read.documents, 'document')} {_is(kept[source])} left."]


def _unfound(funnel: Funnel) -> Iterator[Sentence]:
    for one in funnel.clusters:
        if one.audit is None or not one.audit.duplicates:
            continue
        for what, value in (("recall", one.audit.recall), ("precision", one.audit.precision)):
            if value is not None and value < MISSED:
                told = f" has a {what} of {value:.2f} on the sample that was compared exactly: see its curve."
                yield [Named(one.stage), told]


def _repeated(funnel: Funnel) -> Iterator[Sentence]:
    for share in funnel.shares:
        if share.epochs is not None and share.epochs > REPEATED:
            yield [
                "The source ",
                Named(share.source),
                f" is read {given(share.epochs, 2)} times: beyond four, new text is worth much more.",
            ]


def _thin(funnel: Funnel) -> Iterator[Sentence]:
    side = funnel.sides.get("validation")
    if side is not None and side.tokens is not None and side.tokens < HELD_OUT:
        told = f" ({many(side.documents, 'document')}) are held out: a loss on so little says little."
        yield ["Only ", Named(many(side.tokens, "token")), told, " Raise data.validation, or give a holdout."]
