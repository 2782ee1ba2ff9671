"""The table of results in LaTeX, for a paper: booktabs, nothing else."""

# ruff: noqa: RUF001 (the signs that the report is written with)

from __future__ import annotations

from llmkit.ablate.report import tables
from llmkit.ablate.report.words import direction_of, method, metric_of, summary
from llmkit.ablate.results import StudyResult
from llmkit.typeset.sentence import Named
from llmkit.typeset.table import NUMBER, Row

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "[": "{[}",
        "]": "{]}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "\n": " ",
        "\u2212": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "α": r"$\alpha$",
        "·": r"$\cdot$",
        "\u202f": r"\,",
        "\u00a0": "~",
        "–": "--",
        "’": "'",
        "“": "``",
        "”": "''",
        "…": r"\ldots{}",
        **{superscript: f"$^{{{plain}}}$" for superscript, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")},
    }
)
"""Brackets stand in braces since one that opens a row would be read as an option of the line before."""

PREAMBLE = (
    r"% Needs \usepackage{booktabs}; names of arms that are not ASCII need XeLaTeX or LuaLaTeX." + "\n"
    r"% Where it is wider than the page: \resizebox{\textwidth}{!}{...} around the tabular, or a table*."
)


def table(result: StudyResult) -> str:
    """A `table` with caption and label."""
    shown = tables.results(result)
    places = "l" + "".join("r" if head.kind == NUMBER else "l" for head in shown.heads)
    rows = [_row(row, row.name == result.baseline) for row in shown.rows]
    if rows and shown.rows[0].name == result.baseline and len(rows) > 1:
        rows.insert(1, r"\midrule")
    body = "\n".join(
        (
            r"\begin{tabular}{@{}" + places + "@{}}",
            r"\toprule",
            _line([escaped(shown.names), *(escaped(head.text) for head in shown.heads)]),
            _line(["", *(escaped(head.unit) for head in shown.heads)]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        )
    )
    return "\n".join(
        (
            PREAMBLE,
            r"\begin{table}[t]",
            r"\centering",
            r"\small",
            rf"\caption{{{_caption(result, shown.note)}}}",
            rf"\label{{tab:{_label(result.study)}}}",
            body,
            r"\end{table}",
            "",
        )
    )


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is written."""
    return text.translate(ESCAPES)


def _row(row: Row, is_baseline: bool) -> str:
    """An arm, and a second line where some cell has one."""
    name = escaped(row.name)
    lines = [_line([name, *(_emphasised(entry.text) for entry in row.cells)])]
    notes = [entry.note for entry in row.cells]
    if is_baseline or any(notes):
        lines.append(
            _line([r"\quad baseline" if is_baseline else "", *(rf"\footnotesize {escaped(note)}" if note else "" for note in notes)])
        )
    return "\n".join(lines)


def _emphasised(text: str) -> str:
    return rf"\textbf{{{text}}}" if text in ("better", "worse") else escaped(text)


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _caption(result: StudyResult, note: str) -> str:
    told = "".join(
        rf"\textbf{{{escaped(piece)}}}" if isinstance(piece, Named) else escaped(piece)
        for sentence in summary(result)
        for piece in (*sentence, " ")
    )
    metric = escaped(f"Metric: {metric_of(result)}, {direction_of(result)}.")
    return " ".join((told.strip(), metric, escaped(note), escaped(" ".join(method(result)))))


def _label(study: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in study)
