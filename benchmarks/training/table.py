"""What was measured, for a person; and the file that keeps it."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.training.shapes import Shape

Figures = dict[str, dict[str, Any]]
"""By shape and precision: what `Race.figures` says."""


def load(path: Path) -> Figures:
    return json.loads(path.read_text()) if path.exists() else {}


def save(figures: Figures, path: Path) -> None:
    path.write_text(json.dumps(figures, indent=1) + "\n")


def show(figures: Figures) -> None:
    """A table a shape and precision."""
    for title, piece in figures.items():
        show_piece(title, piece)


def show_piece(title: str, piece: dict[str, Any]) -> None:
    shape, ways = Shape(**piece["shape"]), piece["ways"]
    medians = {name: statistics.median(way["seconds"]) for name, way in ways.items()}
    peers = [name for name in ways if name != "product" and not name.startswith("llmkit") and "-pure" not in name]
    fastest = min((medians[name] for name in peers), default=float("nan"))
    best = next((name for name in peers if medians[name] == fastest), None)
    roof = shape.products_flops() / medians["product"] if "product" in medians else float("nan")
    print(f"\n{title}: {shape.tokens:,} tokens a step, {piece['threads']} threads, a matrix product reaches {roof / 1e9:.0f} GFLOP/s")
    print(f"  {'way':28} {'tokens/s':>9} {'slowest to fastest':>20} {'ratio':>6} {'used':>6} {'peak':>9} {'ratio':>6} {'less held':>10}")
    for name, way in ways.items():
        if name == "product":
            continue
        speeds = [shape.tokens / seconds for seconds in way["seconds"]]
        used = shape.flops() / medians[name] / roof
        memory = ways[best]["peak"] if best is not None else float("nan")
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        print(
            f"  {name:28} {shape.tokens / medians[name]:9,.0f} {spread:>20} {fastest / medians[name]:6.2f}"
            f" {used:6.0%} {way['peak'] / 1e6:6,.0f} MB {way['peak'] / memory:6.2f} {(way['peak'] - way['held']) / 1e6:7,.0f} MB"
        )
    if best is not None:
        print(f"  ratios are to {best}; `pure` ways have no fp32 weights and learn otherwise: they are not what is compared to")
