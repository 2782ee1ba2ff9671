"""The curves of several runs as one picture: a self-contained page without scripts, or what matplotlib draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from llmkit.cli.compare import figures
from llmkit.cli.output import written
from llmkit.train.compare import Comparison, Point

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's, which people who see fewer colours tell apart too."""

TITLES = {"train_loss": "training loss (nats a token)", "val_loss": "validation loss (nats a token)", "val_bits_per_byte": "bits per byte"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 340, 60, 12, 28, 40
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}"
    "td+td{font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}.warning{color:#8a4b00}"
)


class Line(NamedTuple):
    """A run's curve and how it is drawn."""

    label: str
    colour: str
    points: list[Point]


def lines(compared: Comparison, name: str) -> list[Line]:
    """A curve of every run that has one, each run in its own colour."""
    coloured = [(run, COLOURS[index % len(COLOURS)]) for index, run in enumerate(compared.runs)]
    return [Line(run.run, colour, run.curves[name]) for run, colour in coloured if run.curves[name]]


def page(compared: Comparison) -> str:
    """A page with the differences, the figures and the curves. Nothing is loaded from anywhere."""
    names = [run.run for run in compared.runs]
    cells = [figures(run) for run in compared.runs]
    parts = [f'<p class="warning">{escape(text)}</p>' for text in compared.warnings]
    parts.append(_table("spec", names, [(one.address, *map(written, one.values)) for one in compared.differences]))
    parts.append(_table("run", names, [(what, *(cell[what] for cell in cells)) for what in cells[0]]))
    parts += [_svg(TITLES[name], drawn) for name in TITLES if (drawn := lines(compared, name))]
    title = escape(" and ".join(names))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n<h1>{title}</h1>\n' + "\n".join(parts) + "\n</body></html>\n"


def draw(file: Path, compared: Comparison) -> None:
    """The curves with matplotlib, a panel each. `ImportError` where it is not installed."""
    from matplotlib.figure import Figure

    shown = [name for name in TITLES if lines(compared, name)]
    figure = Figure(figsize=(5.2 * max(1, len(shown)), 3.8), layout="constrained")
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    for name, axis in zip(shown, panels, strict=False):
        for line in lines(compared, name):
            marker = "o" if len(line.points) < 30 else None
            axis.plot(
                [point.tokens for point in line.points],
                [point.value for point in line.points],
                color=line.colour,
                label=line.label,
                linewidth=1.2,
                marker=marker,
                markersize=3,
            )
        axis.set(xlabel="tokens", title=TITLES[name])
        axis.legend(fontsize="x-small")
    figure.savefig(file, dpi=150)


def _table(corner: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(head)}</th>" for head in (corner, *heads))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"


def _svg(title: str, drawn: Sequence[Line]) -> str:
    points = [point for line in drawn for point in line.points]
    far = max(point.tokens for point in points)
    low, high = min(point.value for point in points), max(point.value for point in points)
    margin = (high - low) * 0.05 or 0.5
    low, high = low - margin, high + margin

    def across(tokens: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * tokens / far

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for value in ticks(low, high):
        y = down(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for value in ticks(0, far):
        parts.append(f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:,.6g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">tokens</text>')
    for index, line in enumerate(drawn):
        way = " ".join(f"{across(point.tokens):.1f},{down(point.value):.1f}" for point in line.points)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{line.colour}" stroke-width="1.5"/>')
        if len(line.points) < 30:
            dots = (f'<circle cx="{across(point.tokens):.1f}" cy="{down(point.value):.1f}" r="2.5"' for point in line.points)
            parts += [f'{dot} fill="{line.colour}"/>' for dot in dots]
        label = (
            f'<text x="{WIDTH - RIGHT - 4}" y="{TOP + 14 + 16 * index}" text-anchor="end" fill="{line.colour}">{escape(line.label)}</text>'
        )
        parts.append(label)
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="12" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers within the bounds."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]
