"""The figures of a funnel: what is left at each stage, how long documents are, what languages and sources they are of."""

from __future__ import annotations

from llmkit.data.funnel import Funnel, Stage
from llmkit.data.report import bars
from llmkit.data.report.bars import Bar
from llmkit.data.report.words import amount_words, left_words
from llmkit.typeset.digits import TIMES, count, given, portion
from llmkit.typeset.frame import Drawing
from llmkit.typeset.visible import one_line

MOST = 20
"""Languages that are drawn."""


def funnel_drawing(funnel: Funnel) -> Drawing:
    """What is left at each stage, as documents and as bytes."""
    title = "What is left"
    if not funnel.read.documents:
        return Drawing("left", title, None, "No document was read, so there is nothing to draw.")
    documents = max(stage.after.documents for stage in funnel.stages)
    size = _text(funnel).after.bytes
    drawn = [_bar(stage, documents, size) for stage in funnel.stages]
    described = "; ".join(
        f"{stage.stage}: {count(stage.after.documents)} documents, {amount_words(stage.after)}" for stage in funnel.stages
    )
    shown = bars.rows("left", "Documents and bytes after each stage", described, drawn, 1.0)
    caption = (
        "After each stage, the documents (upper bar) and their bytes (lower bar) as parts of all that was read; pale, what left at that "
        "stage. Look for the stage where the bars shorten, and for one where bytes go and documents stay: it cuts within them."
    )
    if any(stage.after.bytes > size for stage in funnel.stages):
        caption += " Bytes are parts of the text that was extracted; an arrow is what was read as pages of HTML."
    return Drawing("left", title, shown, caption)


def lengths_drawing(funnel: Funnel) -> Drawing:
    """How long documents are, before and after."""
    title = "Lengths of documents"
    read, kept = _binned(funnel.lengths_read), _binned(funnel.lengths)
    if not read and not kept:
        return Drawing("lengths", title, None, "No lengths were recorded.")
    described = "; ".join(f"up to {bound} bytes: {count(number)}" for bound, number in sorted(kept.items()))
    series = [kept, read] if read else [kept]
    shown = bars.columns("lengths", "Documents by their length", described, series, "bytes of a document, up to", "documents")
    outline = "; the outline is what was read. Look for" if read else ". Look for"
    caption = (
        f"Documents that are kept, in bins that double{outline} a pile of very short ones (menus, stubs) or very long ones (logs, dumps)."
    )
    return Drawing("lengths", title, shown, caption)


def languages_drawing(funnel: Funnel) -> Drawing | None:
    """The languages of a sample; none where nobody looked."""
    if not funnel.languages:
        return None
    whole = sum(funnel.languages.values())
    ordered = sorted(funnel.languages.items(), key=lambda item: (-item[1], item[0]))
    drawn = [Bar(one_line(code, 40), [number], portion(number, whole)) for code, number in ordered[:MOST]]
    described = "; ".join(f"{code}: {count(number)}" for code, number in ordered[:MOST])
    shown = bars.rows("languages", "Languages of kept documents", described, drawn, float(ordered[0][1]))
    more = f" {len(ordered) - MOST} rarer ones are not shown." if len(ordered) > MOST else ""
    caption = (
        f"The languages of {count(whole)} documents that are kept.{more} Look for one that should not be there; short and mixed text is "
        "often taken for a rare language."
    )
    return Drawing("languages", "Languages", shown, caption)


def mixture_drawing(funnel: Funnel) -> Drawing | None:
    """What there is beside what is trained on; none where there is but one source."""
    if len(funnel.shares) < 2:
        return None
    drawn = []
    for share in funnel.shares:
        epochs = "" if share.epochs is None else f", {given(share.epochs, 2)}{TIMES}"
        note = f"{portion(share.available, 1)} \u2192 {portion(share.proportion, 1)}{epochs}"
        drawn.append(Bar(one_line(share.source, 60), [share.available, share.proportion], note))
    described = "; ".join(
        f"{share.source}: {portion(share.available, 1)} of all tokens, {portion(share.proportion, 1)} of what is trained on"
        for share in funnel.shares
    )
    longest = max(max(share.available, share.proportion) for share in funnel.shares)
    shown = bars.rows("mixture", "Sources in all tokens and in what is trained on", described, drawn, longest)
    caption = (
        "Each source's part of all tokens (upper bar) and of those that are trained on (lower bar); at the end, how often it is read. "
        "Look for a small source with a long lower bar: it is read again and again."
    )
    return Drawing("mixture", "The mixture", shown, caption)


def _text(funnel: Funnel) -> Stage:
    """The stage after which there is text: bytes before it are those of pages."""
    extracted = [stage for stage in funnel.stages if stage.stage == "extract"]
    return extracted[0] if extracted else funnel.stages[0]


def _bar(stage: Stage, documents: int, size: int) -> Bar:
    left = stage.after.documents, stage.after.bytes
    gone = stage.before.documents - left[0], stage.before.bytes - left[1]
    parts = [left[0] / documents, left[1] / size if size else 0.0]
    faint = [max(gone[0], 0) / documents, max(gone[1], 0) / size if size else 0.0]
    return Bar(stage.stage, parts, left_words(stage) or f"{count(left[0])} documents", faint)


def _binned(lengths: dict[int, int]) -> dict[int, int]:
    """Bins that hold something, by powers of two."""
    found: dict[int, int] = {}
    for bound, number in lengths.items():
        if number > 0:
            power = 1 << max(bound - 1, 0).bit_length()
            found[power] = found.get(power, 0) + number
    return found
