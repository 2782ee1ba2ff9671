"""The report as GitHub's Markdown: what the page says, without its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmkit.ablate.report import tables
from llmkit.ablate.report.columns import Entry
from llmkit.ablate.report.tables import ADDRESS, CODE, NUMBER, Table
from llmkit.ablate.report.words import Named, baseline_of, byline, method, progress_words, summary
from llmkit.ablate.results import StudyResult

MARKS = re.compile(r"([\\`*_{}<#|~&$]|\[(?=[^\]]*\][(\[:]))")


def document(result: StudyResult) -> str:
    """The report as Markdown."""
    return "\n\n".join(_parts(result)) + "\n"


def escaped(text: str) -> str:
    """Text that means itself, within a cell as well: no mark, no line of its own."""
    return MARKS.sub(r"\\\1", " ".join(text.split("\n")))


def _parts(result: StudyResult) -> Iterator[str]:
    yield f"# {escaped(result.study)}"
    yield escaped(byline(result))
    yield " ".join(_sentence(sentence) for sentence in summary(result))
    if (unfinished := progress_words(result)) is not None:
        yield f"> **Not complete.** {escaped(unfinished)}"
    if result.amendments:
        yield "> **Amended.** The study was changed after its first run; see below."
    baseline = baseline_of(result)
    if baseline is not None and baseline.judgement.reason:
        yield f"> **The baseline:** {escaped(baseline.judgement.reason)}"
    for warning in result.warnings:
        yield f"> **Warning:** {escaped(warning)}"
    yield _table(tables.results(result))
    yield escaped(f"{tables.results(result).note} {' '.join(method(result))}")
    for table in tables.others(result):
        yield f"## {escaped(table.title)}"
        yield _table(table)
        if table.note:
            yield escaped(table.note)
    yield "## How to reproduce it"
    if result.command:
        yield _fenced(result.command)
    yield "\n".join(f"* {escaped(key)}: {escaped(value)}" for key, value in tables.provenance(result))


def _sentence(sentence: list[str]) -> str:
    return "".join(f"**{escaped(piece)}**" if isinstance(piece, Named) else escaped(piece) for piece in sentence)


def _table(table: Table) -> str:
    heads = [table.names, *(f"{head.text} ({head.unit})" if head.unit else head.text for head in table.heads)]
    rule = ["---", *("---:" if head.kind == NUMBER else "---" for head in table.heads)]
    rows = [[escaped(row.name), *(_cell(entry, head.kind) for entry, head in zip(row.cells, table.heads))] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(map(escaped, heads)), rule, *rows))


def _cell(entry: Entry, kind: str) -> str:
    text = escaped(entry.text)
    if kind in (ADDRESS, CODE) and text and "`" not in entry.text and "|" not in entry.text:
        text = f"`{' '.join(entry.text.split())}`"
    return f"{text}<br>{escaped(entry.note)}" if entry.note else text


def _fenced(command: str) -> str:
    """The command in a fence that is longer than any within it."""
    longest = max((len(found) for found in re.findall(r"`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{command}\n{fence}"
