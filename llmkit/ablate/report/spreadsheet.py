"""Every run as a line of CSV: what `llmkit verdict`, a spreadsheet and anyone's own statistics read."""

from __future__ import annotations

import csv
import io

from llmkit.ablate.report.words import ordered
from llmkit.ablate.results import ArmResult, Cell, StudyResult

HEADS = (
    "arm",
    "seed",
    "value",
    "ending",
    "reason",
    "tokens",
    "seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "parameters_total",
    "parameters_non_embedding",
    "training_flops_per_token",
    "kv_cache_bytes_per_token",
    "verdict",
    "key",
)
"""The first three are what a verdict needs; the costs of an arm stand in each of its lines."""


def lines(result: StudyResult) -> str:
    """The runs, the baseline's first. A run that did not finish has no value; one that has not been run has no line."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADS)
    for arm in ordered(result):
        writer.writerows(_line(arm, cell) for cell in arm.cells if cell.ending != "missing")
    return file.getvalue()


def _line(arm: ArmResult, cell: Cell) -> list[object]:
    """None is written as an empty field, a float with all its digits."""
    return [
        arm.name,
        cell.seed,
        cell.value if cell.ending == "finished" else None,
        cell.ending,
        cell.reason,
        cell.tokens,
        cell.seconds,
        cell.tokens_per_second,
        cell.peak_memory_bytes,
        arm.parameters.get("total"),
        arm.parameters.get("non_embedding"),
        arm.flops_per_token.get("training"),
        arm.kv_cache_bytes_per_token,
        arm.judgement.verdict,
        cell.key,
    ]
