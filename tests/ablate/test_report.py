"""`write_report`: four files from a study's results and nothing else."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import report_examples
from markdown_it import MarkdownIt
from report_examples import HOSTILE

from llmkit.ablate.report import latex, markdown, spreadsheet, write_report
from llmkit.ablate.table import judge_table, read_table
from llmkit.ablate.verdict import judge
from llmkit.core.errors import UserError

STUDIES = ("whole", "sequential", "table_only", "baseline_only", "nothing_yet", "hostile")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_gets_its_four_files_and_no_drafts(name: str, tmp_path: Path) -> None:
    written = write_report(getattr(report_examples, name)(), tmp_path / "study")
    assert [path.name for path in written] == ["report.html", "report.md", "results.csv", "table.tex"]
    assert sorted(tmp_path.joinpath("study").iterdir()) == sorted(written)
    assert all(path.stat().st_size for path in written)


def test_the_same_results_are_written_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = (write_report(report_examples.whole(), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_report(report_examples.whole(), tmp_path)
    old = (tmp_path / "report.md").read_text()
    write_report(report_examples.sequential(), tmp_path)
    assert (tmp_path / "report.md").read_text() == markdown.document(report_examples.sequential()) != old


def test_a_directory_that_is_a_file_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("")
    with pytest.raises(UserError, match=r"cannot write the report in .*study"):
        write_report(report_examples.whole(), tmp_path / "study")


def test_a_report_needs_neither_torch_nor_numpy_nor_scipy() -> None:
    code = "import sys, llmkit.ablate.report; print(sorted({'torch', 'numpy', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_csv_gives_the_values_back_to_the_last_digit() -> None:
    result = report_examples.whole()
    rows = list(csv.DictReader(spreadsheet.lines(result).splitlines()))
    cells = {(cell.arm, cell.seed): cell for arm in result.arms for cell in arm.cells}
    assert list(rows[0])[:3] == ["arm", "seed", "value"]
    assert len(rows) == len(cells)
    for row in rows:
        cell = cells[row["arm"], int(row["seed"])]
        assert row["value"] == ("" if cell.value is None else repr(cell.value))
        assert row["ending"] == cell.ending


def test_llmkit_verdict_reads_the_csv_and_judges_as_the_study_does(tmp_path: Path) -> None:
    result = report_examples.whole()
    write_report(result, tmp_path)
    again = judge_table(read_table(tmp_path / "results.csv"), result.baseline, equivalence=result.equivalence)
    values = {arm.name: {cell.seed: cell.value for cell in arm.cells} for arm in result.arms}
    assert [arm.judgement for arm in again.arms] == judge(values, result.baseline, equivalence=result.equivalence)
    assert {arm.name: arm.judgement.verdict for arm in again.arms}["mha/none"] == "unstable"


def test_a_run_that_has_not_been_run_is_no_run_that_diverged() -> None:
    rows = list(csv.DictReader(spreadsheet.lines(report_examples.sequential()).splitlines()))
    assert [row["seed"] for row in rows if row["arm"] == "gqa/layernorm"] == ["0", "1", "2", "3", "4"]


def test_markdown_has_the_verdicts_the_method_and_the_command() -> None:
    text = markdown.document(report_examples.whole())
    for told in (
        "**gqa/rmsnorm** (\u22120.0116 [\u22120.0142, \u22120.0091]; worth 7% (4\u201310%) of the training tokens) is better",
        "**mha/layernorm** is equivalent within \u00b10.005",
        "**gqa/layernorm** is inconclusive (about 6 more seeds would settle it if that is the difference)",
        "**wide** is confounded, so no verdict on it is given",
        "paired t-test",
        "Holm",
        "loss is not finite at step 431 of 960",
        "```sh\nllmkit ablate recipe:studies/attention --out studies/attention --workers 2\n```",
        report_examples.whole().hash,
    ):
        assert told in text, told


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(name: str) -> None:
    heads = 0
    for line in markdown.document(getattr(report_examples, name)()).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or not heads or cells == heads, line
        heads = cells


@pytest.mark.parametrize("name", STUDIES)
def test_another_reader_of_markdown_finds_the_names_and_no_element_that_we_did_not_write(name: str) -> None:
    result = getattr(report_examples, name)()
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.document(result))
    inline = [token for token in tokens if token.type == "inline"]
    elements = {child.content for token in inline for child in token.children or () if child.type == "html_inline"}
    assert elements <= {"<br>"} and not [token for token in tokens if token.type == "html_block"]
    cells = {"".join(child.content for child in token.children or ()) for token in inline}
    assert {arm.name for arm in result.arms} <= cells
    assert result.study in cells


def test_a_sequential_study_says_so_in_its_method() -> None:
    text = markdown.document(report_examples.sequential())
    assert "after every seed" in text and "e-process" in text and "95% confidence sequence" in text
    assert "**Not complete.**" in text


def test_a_study_of_nothing_but_a_baseline_says_what_it_has() -> None:
    assert "Only the baseline has values: **it** ends at 1.300 \u00b1 0.071 nats per token over 2 seeds." in markdown.document(
        report_examples.baseline_only()
    )


@pytest.mark.parametrize("name", STUDIES)
def test_a_latex_table_has_the_structure_of_one(name: str) -> None:
    text = latex.table(getattr(report_examples, name)())
    for word in (r"\toprule", r"\bottomrule", r"\begin{table}", r"\end{table}", r"\caption{", r"\label{tab:"):
        assert text.count(word) == 1, word
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    columns = re.search(r"\{@\{\}([lr]+)@\{\}\}", text)
    assert columns is not None
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) + 1 == len(columns[1]), line
    plain = re.sub(r"\\[\\{}$]", "", text)
    assert plain.count("{") == plain.count("}") and plain.count("$") % 2 == 0


def test_latex_shows_marks_in_names_as_they_are() -> None:
    text = latex.table(report_examples.hostile())
    told = r"x\_1 \textbar{} 50\% \$y\$ \# \{z\} \textasciitilde{}\textasciicircum{}\textbackslash{} `code` {[}1{]}*"
    assert told in text and HOSTILE[2] not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "table_only", "hostile"])
def test_latex_compiles_the_table(name: str, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None or not _has_booktabs():
        pytest.skip("no pdflatex with booktabs on this machine")
    table = latex.table(getattr(report_examples, name)())
    table = table.replace("\u4e2d\u6587", "").replace("\u00e9", "e")
    document = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage[landscape]{geometry}\\usepackage{booktabs}"
        f"\\begin{{document}}\n{table}\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    ran = subprocess.run([program, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert "Misplaced" not in ran.stdout and (tmp_path / "paper.pdf").exists()


def _has_booktabs() -> bool:
    finder = shutil.which("kpsewhich")
    return finder is not None and bool(subprocess.run([finder, "booktabs.sty"], capture_output=True, text=True).stdout.strip())
