"""The report as GitHub's Markdown: what the page says, without its figures."""

from __future__ import annotations

from collections.abc import Iterator

from llmkit.ablate.report import tables
from llmkit.ablate.report.words import baseline_of, byline, method, progress_words, summary
from llmkit.ablate.results import StudyResult
from llmkit.typeset.markdown import escaped, fenced, sentence, table


def document(result: StudyResult) -> str:
    """The report as Markdown."""
    return "\n\n".join(_parts(result)) + "\n"


def _parts(result: StudyResult) -> Iterator[str]:
    yield f"# {escaped(result.study)}"
    yield escaped(byline(result))
    yield " ".join(map(sentence, summary(result)))
    if (unfinished := progress_words(result)) is not None:
        yield f"> **Not complete.** {escaped(unfinished)}"
    if result.amendments:
        yield "> **Amended.** The study was changed after its first run; see below."
    baseline = baseline_of(result)
    if baseline is not None and baseline.judgement.reason:
        yield f"> **The baseline:** {escaped(baseline.judgement.reason)}"
    for warning in result.warnings:
        yield f"> **Warning:** {escaped(warning)}"
    yield table(tables.results(result))
    yield escaped(f"{tables.results(result).note} {' '.join(method(result))}")
    for other in tables.others(result):
        yield f"## {escaped(other.title)}"
        yield table(other)
        if other.note:
            yield escaped(other.note)
    yield "## How to reproduce it"
    if result.command:
        yield fenced(result.command, "sh")
    yield "\n".join(f"* {escaped(key)}: {escaped(value)}" for key, value in tables.provenance(result))
