"""The funnel's report: a page and Markdown, all from `Funnel` and nothing else."""

from __future__ import annotations

from pathlib import Path

from llmkit.data.durable import told, write_whole
from llmkit.data.funnel import Funnel
from llmkit.data.report import markdown, page


def write_report(funnel: Funnel, directory: Path) -> list[Path]:
    """Write `report.html` and `report.md`, each as a whole: a reader sees the old or the new.

    `UserError` where the directory cannot be written to.
    """
    texts = {"report.html": page.page(funnel), "report.md": markdown.document(funnel)}
    with told(f"the report in {str(directory)!r}"):
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(directory / name, text)
    return [directory / name for name in texts]
