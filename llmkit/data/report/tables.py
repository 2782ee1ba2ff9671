"""The tables of a funnel as text: the page and the Markdown set the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from llmkit.data.funnel import Amount, Funnel, Sensitivity, Stage
from llmkit.data.report.thresholds import dropped_at, dropped_in_use, moved
from llmkit.data.report.words import bytes_words, families, sources, stages_of, tokens_words
from llmkit.typeset.digits import ABSENT, MINUS, count, duration, given, portion, quantity
from llmkit.typeset.sentence import many
from llmkit.typeset.table import CODE, PROSE, WORD, Entry, Head, Row, Table, narrowed
from llmkit.typeset.visible import one_line

LONGEST = 200
"""Characters of an id or a value in a table."""

MEMBERS = 20
"""Reasons of a family that are named, by so many characters of each."""

NAMED = 60
SHOWN = 5
"""Documents of a cluster that are named."""


def stages(funnel: Funnel) -> Table:
    """The funnel itself."""
    heads = [
        Head("type", kind=WORD),
        Head("documents", "out of in"),
        Head("dropped", "of seen"),
        Head("rewritten", "of seen"),
        Head("bytes", "out of in"),
        Head("tokens", "out of in"),
        Head("only here", "of dropped"),
        Head("time", "of processors"),
    ]
    note = (
        "What each stage let out of what came in; a filter of some sources alone sees only theirs, and its parts are of that. "
        "Look for the stage that takes most, and read its samples below. "
        "\u2248: tokens estimated from a sample, since only what is kept is encoded. "
        "Only here: dropped by this filter and by no other, had all seen it; where that is little, the filter could go."
    )
    rows = [Row(stage.stage, _stage(stage), place) for place, stage in enumerate(funnel.stages)]
    return narrowed(Table("stages", "The funnel", "stage", heads, rows, note, anchor="stage"))


def others(funnel: Funnel) -> dict[str, list[Table]]:
    """The tables of each part of the report, those that have something to tell."""
    every = {
        "reasons": [reasons(funnel), overlap(funnel)],
        "thresholds": [thresholds(funnel)],
        "duplicates": [audits(funnel), clusters(funnel)],
        "contents": [by_source(funnel), shares(funnel), sides(funnel)],
        "broken": [broken(funnel)],
        "learned": [learned(funnel)],
    }
    return {part: [table for table in tables if table.rows] for part, tables in every.items()}


def reasons(funnel: Funnel) -> Table:
    """Why documents were dropped."""
    heads = [Head("reason", kind=CODE), Head("documents"), Head("of dropped"), Head("of seen")]
    rows = []
    for place, stage in enumerate(funnel.stages):
        told = {reason: number for reason, number in stage.reasons.items() if place or reason not in funnel.broken}
        for name, members in families(told).items():
            number = sum(members.values())
            parts = (portion(number, stage.removed), portion(number, stage.seen))
            rows.append(Row(stage.stage, [_reason(name, members), Entry(count(number)), *map(Entry, parts)], place))
    note = (
        "The parameter that a document was dropped for; with several, the first that the filter looks at; of a decontamination, the items "
        "that were found. "
        "Look for a reason that you did not expect to matter."
    )
    return Table("reasons", "Why documents were dropped", "stage", heads, rows, note)


def overlap(funnel: Funnel) -> Table:
    """Which filters drop the same documents."""
    filters = [stage for stage in stages_of(funnel, "filters") if stage.removed or stage.shared]
    if len(filters) < 2:
        return Table("overlap", "Which filters agree", "filter", [], [])
    later = [stage for stage in filters if any(_name(stage) in one.shared for one in filters)]
    heads = [Head("dropped"), Head("only here"), *(Head(_name(stage), "as well") for stage in later)]
    rows = [
        Row(
            stage.stage,
            [
                Entry(count(stage.removed)),
                Entry("" if stage.only is None else count(stage.only), "" if stage.only is None else portion(stage.only, stage.removed)),
                *(_both(stage, other) for other in later),
            ],
            place,
        )
        for place, stage in enumerate(filters)
    ]
    note = (
        "Of what a filter drops: how much no other filter would have dropped, and how much each later one would have dropped as well "
        "(every filter is shown what an earlier one dropped, and it counts only here). Look for a row whose documents all stand in "
        "another column: of two filters that agree, one is enough."
    )
    return Table("overlap", "Which filters agree", "filter", heads, rows, note, folds=False)


def thresholds(funnel: Funnel) -> Table:
    """How much hangs on each threshold."""
    heads = [
        Head("threshold", kind=CODE),
        Head("statistic", kind=CODE),
        Head("in use"),
        Head("median", "of the statistic"),
        Head("drops", "in use"),
        Head("drops", "a tenth stricter"),
        Head("drops", "a tenth looser"),
        Head("sample", "documents"),
    ]
    rows = [Row(one.stage, _threshold(one), place) for place, one in enumerate(funnel.sensitivities) if one.values]
    note = (
        "What each threshold drops by itself of the documents that reach its filter, and what it would drop if it were a tenth of itself "
        "stricter or looser. Look for a threshold where the three differ much: there, its exact value decides what the model reads."
    )
    return Table("thresholds", "How much hangs on each threshold", "stage", heads, rows, note)


def audits(funnel: Funnel) -> Table:
    """What deduplicators found, and how much of what there is."""
    heads = [
        Head("clusters"),
        Head("documents", "in clusters"),
        Head("largest", "cluster"),
        Head("sample", "documents"),
        Head("threshold", "Jaccard"),
        Head("duplicates", "in the sample"),
        Head("recall"),
        Head("precision"),
    ]
    rows = []
    for place, one in enumerate(one for one in funnel.clusters if one.sizes or one.audit is not None):
        audit = one.audit
        cells = [
            Entry(count(sum(one.sizes.values()))),
            Entry(count(sum(size * number for size, number in one.sizes.items()))),
            Entry(count(max(one.sizes)) if one.sizes else ""),
            *map(
                Entry,
                ("", "", "", "", "")
                if audit is None
                else (
                    count(audit.documents),
                    given(audit.threshold),
                    many(audit.duplicates, "pair"),
                    _rate(audit.recall),
                    _rate(audit.precision),
                ),
            ),
        ]
        rows.append(Row(one.stage, cells, place))
    note = "The clusters of copies that were found: one document of each stays."
    if any(one.audit is not None for one in funnel.clusters):
        note += (
            " On a sample, against the exact Jaccard similarity of all its pairs: how many duplicates were found (recall), "
            "and how many of those found are ones (precision). Look at how many pairs these parts are of."
        )
    return narrowed(Table("audits", "Duplicates", "stage", heads, rows, note))


def clusters(funnel: Funnel) -> Table:
    """The largest clusters, by the ids of their documents."""
    heads = [Head("stays", kind=CODE), Head("goes", kind=CODE)]
    rows = [
        Row(one.stage, [Entry(one_line(ids[0], LONGEST)), Entry(_named(ids[1:]))], place)
        for place, one in enumerate(funnel.clusters)
        for ids in one.largest
        if ids
    ]
    note = "Look for a large cluster of documents that are no copies: licences, empty forms and lists are joined by what they share."
    return Table("clusters", "The largest clusters", "stage", heads, rows, note)


def by_source(funnel: Funnel) -> Table:
    """What each source lost at each stage."""
    names = sources(funnel)
    told = [stage for stage in funnel.cleaning if _touches(stage)]
    lost = [Head("set aside" if stage is funnel.stages[0] else _name(stage), "of in") for stage in told]
    heads = [Head("read", "documents"), *lost, Head("kept", "documents"), Head("kept", "bytes")]
    rows = []
    for place, name in enumerate(names):
        through = [stage.by_source[name] for stage in funnel.cleaning if name in stage.by_source]
        if not through:
            continue
        first, last = funnel.stages[0].by_source.get(name, through[0])[1], through[-1][1]
        kept = Entry(count(last.documents), portion(last.documents, first.documents) if first.documents else "")
        cells = [Entry(count(first.documents), bytes_words(first)), *(_loss(stage, name) for stage in told), kept, Entry(bytes_words(last))]
        rows.append(Row(name, cells, place))
    note = "What each source lost at each stage that dropped something. Look for a filter that was meant for another source."
    return Table("sources", "Sources through the funnel", "source", heads, rows if len(names) > 1 else [], note, folds=False)


def shares(funnel: Funnel) -> Table:
    """What is trained on."""
    heads = [
        Head("documents"),
        Head("bytes"),
        Head("tokens"),
        Head("there is", "of all tokens"),
        Head("trained on", "of all tokens"),
        Head("epochs", "by train.tokens"),
    ]
    rows = [
        Row(
            share.source,
            [
                Entry(count(share.documents)),
                Entry(quantity(share.bytes, "B")),
                Entry(quantity(share.tokens)),
                Entry(portion(share.available, 1)),
                Entry(portion(share.proportion, 1)),
                Entry("" if share.epochs is None else given(share.epochs, 2)),
            ],
            place,
        )
        for place, share in enumerate(funnel.shares)
    ]
    note = (
        "How much of each source there is and how much of what is trained on comes from it, and how often it is read through. "
        "Look for a source that is read more than four times: repeating it is then worth much less than new text."
    )
    return narrowed(Table("shares", "The mixture", "source", heads, rows, note))


def sides(funnel: Funnel) -> Table:
    """What is trained on, and what is held out."""
    heads = [Head("documents"), Head("bytes"), Head("tokens")]
    rows = [
        Row(name, [Entry(count(side.documents)), Entry(quantity(side.bytes, "B")), Entry(tokens_words(side))], place)
        for place, (name, side) in enumerate(funnel.sides.items())
    ]
    note = "The two sides of the split. Look whether enough is held out: the loss on a few documents is theirs, and not the text's."
    return Table("sides", "Training and validation", "side", heads, rows, note)


def broken(funnel: Funnel) -> Table:
    """Records that were no documents."""
    records = funnel.read.documents + sum(funnel.broken.values())
    rows = [
        Row(one_line(reason, LONGEST), [Entry(count(number)), Entry(portion(number, records))], place)
        for place, (reason, number) in enumerate(sorted(funnel.broken.items(), key=lambda item: (-item[1], item[0])))
    ]
    note = "They were set aside in broken.jsonl, with where they are and their first bytes. A few are the rule; many are the wrong file."
    return Table("broken", "Records that were no documents", "reason", [Head("records"), Head("of all")], rows, note)


def learned(funnel: Funnel) -> Table:
    """What filters report of what they learned: a classifier's held-out accuracy."""
    rows = [
        Row(stage.stage, [Entry(one_line(key, LONGEST)), Entry(one_line(value, LONGEST))], place)
        for place, stage in enumerate(stages_of(funnel, "filters"))
        for key, value in _flat(stage.figures)
    ]
    note = "What filters learned before the first document, in their own words. Look at the accuracy on held-out text before any threshold."
    return Table("learned", "What was learned", "stage", [Head("figure", kind=CODE), Head("value", kind=PROSE)], rows, note)


def _stage(stage: Stage) -> list[Entry]:
    gone = stage.before.documents - stage.after.documents
    return [
        Entry(stage.type, f"of {', '.join(stage.sources)}" if stage.sources else ""),
        Entry(count(stage.after.documents), _of(count(stage.before.documents), gone)),
        Entry(count(stage.removed), portion(stage.removed, stage.seen)) if stage.removed else Entry(""),
        Entry(count(stage.rewritten), portion(stage.rewritten, stage.seen)) if stage.rewritten else Entry(""),
        Entry(bytes_words(stage.after), _of(bytes_words(stage.before), stage.before.bytes - stage.after.bytes)),
        _tokens(stage.before, stage.after),
        Entry("") if stage.only is None or not stage.removed else Entry(count(stage.only), portion(stage.only, stage.removed)),
        Entry(duration(stage.seconds) if stage.seconds >= 0.05 else ""),
    ]


def _tokens(before: Amount, after: Amount) -> Entry:
    told = tokens_words(after)
    if before.tokens is None or after.tokens is None:
        return Entry(told)
    return Entry(told, _of(tokens_words(before), before.tokens - after.tokens))


def _of(words: str, difference: int) -> str:
    return f"of {words}" if difference else ""


def _both(stage: Stage, other: Stage) -> Entry:
    number = stage.shared.get(_name(other))
    if number is None:
        return Entry("")
    return Entry(count(number), portion(number, stage.removed))


def _reason(name: str, members: Mapping[str, int]) -> Entry:
    """A reason, or those that begin alike with the commonest of them."""
    if list(members) == [name]:
        return Entry(one_line(name, LONGEST))
    first = list(members.items())[:MEMBERS]
    shown = ", ".join(f"{one_line(reason.removeprefix(f'{name}:'), NAMED)} ({count(number)})" for reason, number in first)
    return Entry(one_line(name, LONGEST), f"{shown} and {count(len(members) - MEMBERS)} more" if len(members) > MEMBERS else shown)


def _threshold(one: Sensitivity) -> list[Entry]:
    values = one.values
    return [
        Entry(one_line(one.parameter, LONGEST)),
        Entry(one_line(one.statistic, LONGEST)),
        Entry(limit_words(one)),
        Entry(given(values[len(values) // 2], 4)),
        Entry(portion(dropped_in_use(one), 1)),
        Entry(portion(dropped_at(one, *moved(one, 0.1)), 1)),
        Entry(portion(dropped_at(one, *moved(one, -0.1)), 1)),
        Entry(count(one.n)),
    ]


def limit_words(one: Sensitivity) -> str:
    """The limits in use: `at least 50`."""
    told = ["" if one.least is None else f"\u2265 {given(one.least)}", "" if one.most is None else f"\u2264 {given(one.most)}"]
    return ", ".join(filter(None, told))


def _rate(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _named(ids: list[str]) -> str:
    named = ", ".join(one_line(one, LONGEST // 2) for one in ids[:SHOWN])
    return f"{named} and {count(len(ids) - SHOWN)} more" if len(ids) > SHOWN else named


def _touches(stage: Stage) -> bool:
    return any(before.documents != after.documents for before, after in stage.by_source.values())


def _loss(stage: Stage, source: str) -> Entry:
    if source not in stage.by_source:
        return Entry("")
    before, after = stage.by_source[source]
    gone = before.documents - after.documents
    return Entry(f"{MINUS}{portion(gone, before.documents)}", count(gone)) if gone else Entry("")


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Figures by address, their values as a reader takes them."""
    for key, value in figures.items():
        address = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{address}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield address, given(value, 6)
        else:
            yield address, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _name(stage: Stage) -> str:
    """The name that the spec gives it: columns are narrow."""
    return stage.stage.partition(".")[2] or stage.stage
