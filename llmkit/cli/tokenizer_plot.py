"""Tokenizers side by side as a picture: what matplotlib draws, in a page of its own where one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.cli.curves import COLOURS, STYLE

if TYPE_CHECKING:
    from llmkit.cli.tokenizer_tables import Table
    from llmkit.data.tokenizer_comparison import Comparison

PAGE = ".html"
ENDINGS = (PAGE, ".png", ".svg", ".pdf")


def draw(file: Path, compared: Comparison, tables: Sequence[Table]) -> None:
    """A picture, or a page with it and the tables that loads nothing. `ImportError` where matplotlib is not installed."""
    picture = _figure(compared)
    if file.suffix != PAGE:
        picture.savefig(file, dpi=150)
        return
    drawn = StringIO()
    picture.savefig(drawn, format="svg", metadata={"Date": None})
    file.write_text(_page(drawn.getvalue(), tables), encoding="utf-8")


def _figure(compared: Comparison) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    (sizes, words), (use, speed) = figure.subplots(2, 2)
    _bars(sizes, compared, "bytes a token", [[text.bytes_per_token for text in one.texts] for one in compared.tokenizers])
    _bars(words, compared, "tokens a word", [[text.fertility or 0.0 for text in one.texts] for one in compared.tokenizers])
    for place, one in enumerate(compared.tokenizers):
        ranks = range(1, len(one.frequencies) + 1)
        use.plot(ranks, one.frequencies / one.tokens, color=_colour(place), linewidth=1.4, label=f"{one.name}, of {one.vocab_size:,} ids")
    use.set(xscale="log", yscale="log", xlabel="rank of the id", title="part of all tokens")
    use.legend(fontsize="small")
    _speeds(speed, compared)
    figure.legend(*sizes.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(compared.tokenizers), 6))
    return figure


def _bars(axis: Any, compared: Comparison, title: str, values: list[list[float]]) -> None:
    """A group of bars for each text, a bar for each tokenizer."""
    width = 0.8 / len(values)
    for place, (one, heights) in enumerate(zip(compared.tokenizers, values, strict=True)):
        left = [text - 0.4 + (place + 0.5) * width for text in range(len(heights))]
        axis.bar(left, heights, width, color=_colour(place), label=one.name)
    names = [text.name for text in compared.texts]
    axis.set_xticks(range(len(names)), names, rotation=45 if len(names) > 5 else 0, ha="right" if len(names) > 5 else "center")
    axis.set(title=title)
    axis.grid(axis="y", alpha=0.3)


def _speeds(axis: Any, compared: Comparison) -> None:
    """The median of the rounds, with a line from the slowest to the fastest."""
    for offset, (what, hatch) in enumerate((("encode", ""), ("decode", "//"))):
        for place, one in enumerate(compared.tokenizers):
            speed = one.encode if what == "encode" else one.decode
            spread = [[speed.median - speed.low], [speed.high - speed.median]]
            axis.barh(
                place + 0.2 - 0.4 * offset, speed.median, 0.38, xerr=spread, color=_colour(place), hatch=hatch, alpha=1 - 0.4 * offset
            )
    axis.set_yticks(range(len(compared.tokenizers)), [one.name for one in compared.tokenizers])
    axis.invert_yaxis()
    axis.set(xscale="log", title=f"MB a second, {compared.threads} threads: encoding, decoding (hatched)")
    axis.grid(axis="x", alpha=0.3)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _page(picture: str, tables: Sequence[Table]) -> str:
    svg = picture[picture.index("<svg") :]
    head = f'<meta charset="utf-8"><title>tokenizers</title><style>{STYLE}</style>'
    body = "\n".join(_table(table) for table in tables)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n<h1>Tokenizers</h1>\n{svg}\n{body}\n</body></html>\n'


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.heads)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2>\n<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table>"
