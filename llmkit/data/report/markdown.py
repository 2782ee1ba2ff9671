"""The report as GitHub's Markdown: what the page says, without its figures, and with fewer samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from llmkit.data.funnel import Funnel, Sample
from llmkit.data.report import samples, tables
from llmkit.data.report.page import TITLES
from llmkit.data.report.words import byline, held_words, notices, summary
from llmkit.typeset.markdown import escaped, fenced, sentence, table
from llmkit.typeset.table import Table
from llmkit.typeset.visible import one_line, visible

SAMPLES = 3
"""Of a reason."""

CHARACTERS = 400
"""Of a sample."""


def document(funnel: Funnel) -> str:
    """The report as Markdown."""
    return "\n\n".join(_parts(funnel)) + "\n"


def _parts(funnel: Funnel) -> Iterator[str]:
    yield f"# {escaped(one_line(funnel.name))}"
    yield escaped(byline(funnel))
    yield " ".join(map(sentence, summary(funnel)))
    for notice in notices(funnel):
        yield f"> **Look:** {sentence(notice)}"
    told = {"funnel": [tables.stages(funnel)], **tables.others(funnel)}
    for key, title in TITLES.items():
        if told.get(key):
            yield f"## {title}"
            yield from _tables(told[key], title)
    if funnel.samples:
        yield f"## {TITLES['samples']}"
        yield samples.WARNING
        yield from _samples(funnel)
    yield escaped(f"llmkit {funnel.llmkit}, fingerprint {funnel.fingerprint}. The numbers are in funnel.json beside this file.")


def _tables(shown: list[Table], title: str) -> Iterator[str]:
    for one in shown:
        if one.title != title:
            yield f"### {escaped(one.title)}"
        yield table(one)
        if one.note:
            yield escaped(one.note)


def _samples(funnel: Funnel) -> Iterator[str]:
    for stage, groups in groupby(samples.groups(funnel), key=lambda group: group.stage):
        yield f"### {escaped(one_line(stage))}"
        for group in groups:
            yield f"**{escaped(one_line(group.reason, samples.NAME))}**: {samples.heading(group)}"
            for sample in group.samples[:SAMPLES]:
                yield from _sample(sample, group)


def _sample(sample: Sample, group: samples.Group) -> Iterator[str]:
    stays = "" if sample.keeper is None else f"in its place stays {one_line(sample.keeper, samples.NAME)}"
    whose = (one_line(sample.id, samples.NAME), one_line(sample.source, samples.NAME))
    yield escaped(", ".join(filter(None, (*whose, samples.told_reason(sample, group), held_words(sample), stays))))
    yield fenced(samples.shortened(visible(sample.text, CHARACTERS)))
    if sample.after is not None:
        yield "became:"
        yield fenced(samples.shortened(visible(sample.after, CHARACTERS)))
