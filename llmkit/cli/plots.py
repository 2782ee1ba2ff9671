"""Plots, with matplotlib (`pip install 'llmkit[plot]'`), drawn into files: no window is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from llmkit.train.coordinates import Coordinate


def draw_coordinates(file: Path, found: Sequence[Coordinate], *, title: str) -> None:
    """Size against width, both logarithmic: a panel a step, a line a module. Lines that stay level are what muP is for."""
    steps = sorted({one.step for one in found})
    figure = Figure(figsize=(3.2 * len(steps), 4.2), layout="constrained")
    axes = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
    for axis, step in zip(axes, steps, strict=True):
        for module in dict.fromkeys(one.module for one in found):
            points = [one for one in found if (one.step, one.module) == (step, module)]
            axis.plot([one.width for one in points], [one.size for one in points], marker="o", markersize=3, linewidth=1, label=module)
        axis.set(xscale="log", yscale="log", xlabel="d_model", title=f"step {step}")
        widths = sorted({one.width for one in found})
        axis.set_xticks(widths, [str(width) for width in widths], minor=False)
        axis.minorticks_off()
    axes[0].set_ylabel("mean absolute activation")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="x-small")
    figure.suptitle(title)
    figure.savefig(file, dpi=150)
