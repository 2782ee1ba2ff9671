"""The report of a study: a page, Markdown, CSV and a LaTeX table, all from `StudyResult` and nothing else."""

from __future__ import annotations

from pathlib import Path

from llmkit.ablate.report import latex, markdown, page, spreadsheet
from llmkit.ablate.results import StudyResult
from llmkit.data.durable import told, write_whole


def write_report(result: StudyResult, directory: Path) -> list[Path]:
    """Write `report.html`, `report.md`, `results.csv` and `table.tex`, each as a whole: a reader sees the old or the new.

    `UserError` where the directory cannot be written to.
    """
    texts = {
        "report.html": page.page(result),
        "report.md": markdown.document(result),
        "results.csv": spreadsheet.lines(result),
        "table.tex": latex.table(result),
    }
    with told(f"the report in {str(directory)!r}"):
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(directory / name, text)
    return [directory / name for name in texts]
