"""`llmkit verdict` on tables that llmkit never made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llmkit.cli import main

Told = tuple[int, str, str]
HEAVY = ["torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scipy", "pandas", "matplotlib"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    shared = 3.28 + 0.01 * rng.standard_normal(6)
    rows = ["arm,seed,value,note"]
    for arm, shift in {"mha": 0.0, "gqa": -0.02, "mqa": 0.0002}.items():
        rows += [f"{arm},{seed},{value:.6f},x" for seed, value in enumerate(shared + shift + 0.001 * rng.standard_normal(6))]
    (tmp_path / "losses.csv").write_text("\n".join(rows))
    return tmp_path / "losses.csv"


@pytest.fixture
def verdict(table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(table.parent)

    def run(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["llmkit", "verdict", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
        return code, *capsys.readouterr()

    return run


def columns(table: Path) -> dict[str, list[float]]:
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    return {arm: [float(row[2]) for row in rows if row[0] == arm] for arm in ("mha", "gqa", "mqa")}


def test_json_has_the_keys_of_a_study_and_scipys_figures(verdict: Any, table: Path) -> None:
    code, out, err = verdict("losses.csv", "--baseline", "mha", "--json")
    document = json.loads(out)
    assert code == 0 and err == "" and (document["study"], document["baseline"]) == ("losses", "mha")
    keys = {"name", "parameters", "flops_per_token", "seeds", "mean", "difference", "interval", "p", "p_adjusted", "verdict"}
    baseline, gqa, mqa = document["arms"]
    assert all(keys <= set(arm) for arm in document["arms"])
    assert {baseline[key] for key in ("difference", "interval", "p", "p_adjusted", "verdict")} == {None}
    values = columns(table)
    theirs = stats.ttest_rel(values["gqa"], values["mha"])
    assert gqa["p"] == pytest.approx(theirs.pvalue, rel=1e-9) and gqa["seeds"] == list(range(6))
    assert gqa["interval"] == pytest.approx(list(theirs.confidence_interval(0.95)), rel=1e-9)
    assert (gqa["verdict"], mqa["verdict"]) == ("better", "inconclusive")
    assert gqa["p_adjusted"] == pytest.approx(2 * gqa["p"])
    assert document["command"] == "llmkit verdict losses.csv --baseline mha --json"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["better", "inconclusive"]),
        (["--higher-is-better"], ["worse", "inconclusive"]),
        (["--equivalence", "0.003"], ["better", "equivalent"]),
        (["--equivalence", "0.05"], ["equivalent", "equivalent"]),
        (["--alpha", "1e-9"], ["inconclusive", "inconclusive"]),
        (["--sequential"], ["better", "inconclusive"]),
        (["--sequential", "--equivalence", "0.005"], ["better", "equivalent"]),
        (["--unpaired"], ["better", "inconclusive"]),
    ],
)
def test_options_ask_another_question(verdict: Any, options: list[str], expected: list[str]) -> None:
    _, out, _ = verdict("losses.csv", "--baseline", "mha", "--json", *options)
    arms = json.loads(out)["arms"]
    assert [arm["verdict"] for arm in arms[1:]] == expected
    assert all(arm["reason"] for arm in arms[1:])


def test_a_person_gets_a_line_an_arm_that_ends_with_the_reason(verdict: Any) -> None:
    code, out, err = verdict("losses.csv", "--baseline", "mha")
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and err == ""
    assert [(line[0], line[1], line[7]) for line in lines] == [("mha", "6", "-"), ("gqa", "6", "better"), ("mqa", "6", "inconclusive")]
    assert "lower than mha (0.0" in lines[1][8] and "more seed" in lines[2][8]


def test_on_a_terminal_it_is_a_table_with_the_reasons_under_it(verdict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    import llmkit.cli.output as output
    import llmkit.cli.verdict as command

    for module in (output, command):
        monkeypatch.setattr(module, "result", Console(force_terminal=True, width=100, no_color=True, highlight=False))
    code, out, _ = verdict("losses.csv", "--baseline", "mha")
    assert code == 0 and "adjusted" in out and "gqa: better: 0.0" in out


def test_uneven_seeds_are_warned_of_and_diverged_runs_are_unstable(verdict: Any, table: Path) -> None:
    table.write_text(table.read_text() + "\nmqa,9,nan,\n")
    code, out, err = verdict("losses.csv", "--baseline", "mha")
    assert code == 0 and "warning: mqa and mha do not have the same seeds: 9 left out" in err
    assert "unstable" in out.splitlines()[2]
    document = json.loads(verdict("losses.csv", "--baseline", "mha", "--json")[1])
    assert document["arms"][2]["seeds"] == list(range(6)) and len(document["warnings"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["losses.csv", "--baseline", "mhaa"], "did you mean 'mha'?"),
        (["none.csv", "--baseline", "mha"], "cannot read 'none.csv'"),
        (["losses.csv", "--baseline", "mha", "--equivalence", "-1"], "equivalence -1.0"),
        (["losses.csv", "--baseline", "mha", "--alpha", "2"], "alpha 2.0"),
        (["losses.csv", "--baseline", "mha", "--alpha", "nan"], "alpha nan"),
        (["losses.csv", "--baseline", "mha", "--sequential", "--unpaired"], "needs paired seeds"),
        (["losses.csv"], "--baseline"),
    ],
)
def test_a_mistake_ends_with_2_and_what_to_do(verdict: Any, arguments: list[str], words: str) -> None:
    code, out, err = verdict(*arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err


def test_a_bad_number_is_told_with_file_line_and_column(verdict: Any, table: Path) -> None:
    table.write_text("arm,seed,value\nmha,0,3.28\nmha,1,three\n")
    code, _, err = verdict("losses.csv", "--baseline", "mha")
    assert code == 2 and "losses.csv:3:7: value: expected a number, got 'three'" in err


def test_help_and_mistakes_import_nothing_heavy_and_judging_imports_no_torch(table: Path) -> None:
    probe = (
        "import sys\nfrom llmkit.cli import app\nsys.argv = ['llmkit', 'verdict', *{arguments!r}]\n"
        "try: app()\nexcept BaseException: pass\nprint([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )

    def imported(*arguments: str) -> str:
        program = probe.format(arguments=arguments, heavy=HEAVY)
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr.splitlines()[-1]

    assert imported("--help") == "[]"
    assert imported(str(table), "--baseline", "mah") == "[]"
    assert "torch" not in imported(str(table), "--baseline", "mha", "--json")
