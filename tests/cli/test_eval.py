"""`llmkit eval` on a run with initial weights."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.cli import main
from llmkit.core.spec import Spec
from llmkit.data.prepare import prepare
from llmkit.runtime import catalog, load_spec
from llmkit.train.loop import train
from llmkit.train.run import write_initialised

WORDS = ["stone", "river", "cloud", "grass", "storm", "light", "house", "bread", "water", "night"]


def word_spec(root: Path, *overrides: str) -> Spec:
    """A tiny model over sixty documents of ten words."""
    (root / "text").mkdir()
    for index in range(60):
        (root / "text" / f"{index:02}.txt").write_text(" ".join(WORDS[(index * 7 + step * step) % 10] for step in range(5 + index)))
    spec = {
        "name": "words",
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "max_seq_len": 32,
            "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": {"type": "swiglu", "d_ff": 24}},
        },
        "data": {"source": {"type": "text", "paths": [str(root / "text" / "*.txt")]}, "validation": 0.3, "cache": str(root / "cache")},
        "train": {"steps": 1},
    }
    return load_spec(spec, overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eval")
    spec, out = word_spec(root), root / "run"
    write_initialised(spec, out)
    shutil.copytree(prepare(spec).tokenizer_directory, out / "tokenizer", dirs_exist_ok=True)
    return out


def llmkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of the program."""
    monkeypatch.setattr(sys, "argv", ["llmkit", *map(str, arguments)])
    code: Any = 0
    try:
        main()
    except SystemExit as exit_:
        code = exit_.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def results(stdout: str) -> dict[str, dict[str, Any]]:
    rows = json.loads(stdout)["results"]
    assert all(set(row) == {"evaluator", "metric", "value", "stderr", "n"} for row in rows)
    return {row["metric"]: row for row in rows}


def test_json_has_the_specs_evaluators_on_the_validation_text(run: Path, monkeypatch: Any, capsys: Any) -> None:
    code, out, _ = llmkit(monkeypatch, capsys, "eval", run, "--json")
    found = results(out)
    assert code == 0 and list(found) == ["loss", "perplexity", "bits_per_byte"]
    assert found["loss"]["value"] == pytest.approx(math.log(258), abs=0.3)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(found["loss"]["value"]))
    assert 5 < found["loss"]["n"] < 35
    assert all(0 < row["stderr"] < row["value"] for row in found.values())


def test_the_batch_size_changes_nothing(run: Path, monkeypatch: Any, capsys: Any) -> None:
    one, many = (results(llmkit(monkeypatch, capsys, "eval", run, "--json", "--batch-size", size)[1]) for size in (1, 50))
    assert [row["value"] for row in one.values()] == pytest.approx([row["value"] for row in many.values()], rel=1e-6)


@pytest.mark.parametrize("override", ["train.precision=fp32", "train.precision=bf16", "data.mask_documents=true"])
def test_it_reports_the_number_that_training_reported(tmp_path: Path, override: str, monkeypatch: Any, capsys: Any) -> None:
    trained = train(word_spec(tmp_path, "train.steps=3", override), out=tmp_path / "run", catalog=catalog())
    capsys.readouterr()
    found = results(llmkit(monkeypatch, capsys, "eval", tmp_path / "run", "--json")[1])
    assert found["loss"]["value"] == pytest.approx(trained["val_loss"], rel=1e-6)
    assert found["bits_per_byte"]["value"] == pytest.approx(trained["val_bits_per_byte"], rel=1e-6)


def test_data_files_stand_in_for_the_validation_text(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("a text of its own: é")
    _, out, _ = llmkit(monkeypatch, capsys, "eval", run, "--evals", "perplexity", "--data", files[0], "--data", files[1], "--json")
    assert {row["n"] for row in results(out).values()} == {2}


def test_a_person_gets_a_line_a_metric_with_its_standard_error(run: Path, monkeypatch: Any, capsys: Any) -> None:
    code, out, err = llmkit(monkeypatch, capsys, "eval", run)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    assert all(line.startswith("perplexity ") and " ± " in line and " n=" in line for line in lines)
    assert "the validation text of text" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evals", "perplexty"], "no evaluator is called 'perplexty'; did you mean 'perplexity'?"),
        (["--evals", " , "], "names no evaluator; installed:"),
        (["--data", "nowhere.txt"], "cannot read --data 'nowhere.txt': No such file or directory"),
    ],
)
def test_mistakes_exit_2_with_a_remedy(run: Path, arguments: list[str], message: str, monkeypatch: Any, capsys: Any) -> None:
    code, out, err = llmkit(monkeypatch, capsys, "eval", run, *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_run_that_is_not_there_exits_2_and_names_it(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    code, out, err = llmkit(monkeypatch, capsys, "eval", tmp_path / "missing-run")
    assert (code, out) == (2, "")
    assert "missing-run" in "".join(err.split())


def test_a_file_that_is_no_text_exits_2_and_names_it(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "picture.bin").write_bytes(b"\x89PNG\xff")
    code, _, err = llmkit(monkeypatch, capsys, "eval", run, "--data", tmp_path / "picture.bin")
    assert code == 2 and "is no UTF-8 text (byte 0)" in " ".join(err.split())
