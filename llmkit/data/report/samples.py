"""Samples of what was removed, by stage and reason, and what changed in those that were rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple
from xml.etree.ElementTree import Element

from llmkit.data.funnel import Funnel, Sample
from llmkit.data.report.words import families, held_words
from llmkit.typeset.digits import count
from llmkit.typeset.markup import Child, node
from llmkit.typeset.sentence import many
from llmkit.typeset.visible import CUT, one_line, visible

CHARACTERS = 1200
"""Of a sample that are shown."""

LINES = 30
LEAD = 120
"""Characters that are shown before the first change of a rewritten document."""

PIECE = re.compile(r"\s+|\w+|[^\w\s]")
REWRITTEN = "rewritten"
NAME = 160
"""Characters of an id or a reason."""

WARNING = (
    "These are texts of strangers as they came in, with whatever was taken out of them: think before you hand this file on. "
    "A character without a glyph is its number: \u27e80000\u27e9 for NUL, and \u27e8202E\u27e9, which turns the direction of writing."
)


class Group(NamedTuple):
    """The samples of a reason; `number` is how many documents it dropped, None where nobody counted."""

    stage: str
    reason: str
    removal: str
    number: int | None
    samples: list[Sample]


class Change(NamedTuple):
    """A piece of a rewritten text: `kept`, `removed` or `added`."""

    kind: str
    text: str


def groups(funnel: Funnel) -> list[Group]:
    """The samples in the order of the stages, the commonest reason of each first."""
    stages = {stage.stage: place for place, stage in enumerate(funnel.stages)}
    names: dict[tuple[str, str], str] = {}
    numbers: dict[tuple[str, str], int] = {}
    for stage in funnel.stages:
        for name, members in families(stage.reasons).items():
            numbers[stage.stage, name] = sum(members.values())
            names |= {(stage.stage, reason): name for reason in members}
        if stage.rewritten:
            numbers[stage.stage, REWRITTEN] = stage.rewritten

    def key(sample: Sample) -> tuple[str, str, str]:
        name = REWRITTEN if sample.removal == REWRITTEN else names.get((sample.stage, sample.reason), sample.reason)
        return (sample.stage, name, sample.removal)

    found = [Group(*of, numbers.get(of[:2]), list(samples)) for of, samples in groupby(sorted(funnel.samples, key=key), key=key)]
    return sorted(found, key=lambda group: (stages.get(group.stage, len(stages)), group.stage, -(group.number or 0), group.reason))


def drawn(funnel: Funnel) -> Iterator[Element]:
    """The samples as a list that opens by reason."""
    for stage, group in groupby(groups(funnel), key=lambda group: group.stage):
        yield node("h3", one_line(stage, NAME))
        yield from map(_opening, group)


def heading(group: Group) -> str:
    """What stands beside the reason: how many, and how many of them are here."""
    shown = many(len(group.samples), "sample")
    return shown if group.number is None else f"{count(group.number)}, {shown}"


def told_reason(sample: Sample, group: Group) -> str:
    """A sample's own reason, where its group has several."""
    return "" if sample.reason == group.reason else one_line(sample.reason, NAME)


def shown(text: str) -> str:
    """A text's first lines, with nothing in them that acts."""
    return shortened(visible(text, CHARACTERS))


def shortened(text: str) -> str:
    """No more lines than a reader wants to scroll over."""
    lines = text.split("\n")
    return "\n".join([*lines[:LINES], CUT]) if len(lines) > LINES else text


def changes(before: str, after: str) -> list[Change]:
    """What became of a text, from shortly before the first change on.

    Where both were cut to the same length, what differs at the very end is the cut's doing, and is left out.
    """
    start = max(_common(before, after) - LEAD, 0)
    cut_alike = len(before) == len(after)
    old, new = (PIECE.findall(text[start : start + CHARACTERS]) for text in (before, after))
    found: list[Change] = [Change("kept", CUT)] if start else []
    # What occurs all over is no place to begin a match at: without this, a text of one word repeated takes seconds.
    for kind, i, j, m, n in SequenceMatcher(None, old, new, autojunk=True).get_opcodes():
        at_end = j == len(old) and n == len(new)
        if kind == "equal":
            found.append(Change("kept", "".join(old[i:j])))
            continue
        if at_end and (cut_alike or max(len(before), len(after)) > start + CHARACTERS) and any(one.kind != "kept" for one in found):
            found.append(Change("kept", CUT))
            continue
        found += [Change(what, "".join(pieces)) for what, pieces in (("removed", old[i:j]), ("added", new[m:n])) if pieces]
    return found


def _common(one: str, other: str) -> int:
    """How many characters they begin with alike."""
    for place, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return place
    return min(len(one), len(other))


def _opening(group: Group) -> Element:
    return node(
        "details",
        node("summary", node("code", one_line(group.reason, NAME)), f" {heading(group)}"),
        node("ol", [_sample(sample, group) for sample in group.samples], class_="samples"),
    )


def _sample(sample: Sample, group: Group) -> Element:
    told = ", ".join(filter(None, [one_line(sample.source, NAME), told_reason(sample, group), held_words(sample)]))
    keeper: list[Child] = [] if sample.keeper is None else ["; in its place stays ", node("bdi", one_line(sample.keeper, NAME))]
    head = node("p", node("bdi", one_line(sample.id, NAME)), f" {told}".rstrip(), keeper, class_="told")
    text = [shown(sample.text)] if sample.after is None else _marked(changes(sample.text, sample.after))
    return node("li", head, _text(text))


def _text(pieces: Sequence[Child]) -> Element:
    return node("pre", pieces, dir="auto")


def _marked(pieces: Sequence[Change]) -> list[Child]:
    marked: list[Child] = []
    left = 2 * LINES
    for piece in pieces:
        if left <= 0:
            return [*marked, CUT]
        text = shortened(visible(piece.text))
        left -= text.count("\n")
        marked.append(text if piece.kind == "kept" else node("del" if piece.kind == "removed" else "ins", _seen(text)))
    return marked


def _seen(text: str) -> str:
    """White space that went or came, which is not seen otherwise."""
    return text.replace(" ", "\u00b7").replace("\t", "\u2192\t").replace("\n", "\u21b5\n") if text.isspace() else text
