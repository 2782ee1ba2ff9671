"""`llmkit spec` at the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.cli import main
from llmkit.core.filled import filled
from llmkit.runtime import load_spec

SPEC = "tokenizer: bytes\nmodel:\n  d_model: 64\n  n_layers: 2\n  max_seq_len: 32\n  block: {norm: layernorm}\n"
Told = tuple[int, str, str]


@pytest.fixture
def llmkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs the program in a directory with a spec; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)

    def run(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


def test_check_tells_the_problems_of_several_specs_as_json(llmkit):
    Path("wrong.yaml").write_text(SPEC.replace("n_layers: 2", "n_layers: two"))
    code, out, _ = llmkit("spec", "check", "spec.yaml", "wrong.yaml", "nowhere.yaml", "--json")
    first, second = json.loads(out)["problems"]
    assert code == 2 and first == {
        "file": "wrong.yaml",
        "line": 4,
        "column": 13,
        "address": "model.n_layers",
        "message": "expected a whole number, got 'two' (n_layers: number of blocks)",
    }
    assert (second["file"], second["line"]) == ("nowhere.yaml", None) and "no such file" in second["message"]


def test_check_of_a_right_spec_exits_0_with_no_problems(llmkit):
    code, out, _ = llmkit("spec", "check", "spec.yaml", "--json")
    assert code == 0 and json.loads(out)["problems"] == []


def test_show_prints_yaml_that_loads_as_the_same_spec(llmkit):
    code, out, _ = llmkit("spec", "show", "spec.yaml", "--set", "train.tokens=5_000")
    Path("filled.yaml").write_text(out)
    assert code == 0 and load_spec("filled.yaml") == load_spec("spec.yaml", ["train.tokens=5000"])


def test_show_as_json_is_the_filled_spec(llmkit):
    _, out, _ = llmkit("spec", "show", "spec.yaml", "--json")
    assert json.loads(out) == filled(load_spec("spec.yaml"))


def test_show_why_tells_the_layer_of_every_value(llmkit):
    Path("top.yaml").write_text("extends: spec.yaml\nmodel: {n_layers: 3}\n")
    _, out, _ = llmkit("spec", "show", "top.yaml", "--why", "--json", "--set", "train.seed=7")
    document = json.loads(out)
    rows: dict[str, dict[str, Any]] = {row["address"]: row for row in document["why"] if row["layer"] != "derived"}
    layers = {address: (row["value"], row["layer"], row["line"]) for address, row in rows.items()}
    assert document["spec"]["model"]["n_layers"] == 3
    assert layers["model.n_layers"] == (3, "top.yaml", 2)
    assert layers["model.d_model"] == (64, "spec.yaml", 3)
    assert layers["model.block.norm.type"] == ("layernorm", "spec.yaml", 6)
    assert layers["model.block.norm.eps"] == (1e-5, "default", None)
    assert layers["model.block.ffn.type"][1] == "recipe:defaults"
    assert layers["train.seed"] == (7, "--set train.seed=7", None)
    assert layers["name"] == ("top", "top.yaml", 1)
    assert {"address": "train.seq_len", "value": 32, "layer": "derived", "line": None, "column": None} in document["why"]


def test_show_why_prints_a_line_a_value_for_a_pipe(llmkit):
    _, out, _ = llmkit("spec", "show", "spec.yaml", "--why")
    assert "model.d_model\t64\tspec.yaml:3:12" in out.splitlines()


def test_diff_tells_what_differs_by_address(llmkit):
    Path("other.yaml").write_text(SPEC.replace("d_model: 64", "d_model: 128"))
    _, out, _ = llmkit("spec", "diff", "spec.yaml", "other.yaml", "--json")
    assert json.loads(out)["differences"] == [
        {"address": "name", "values": ["spec", "other"]},
        {"address": "model.d_model", "values": [64, 128]},
    ]
    _, out, _ = llmkit("spec", "diff", "spec.yaml", "other.yaml", "--set", "name=one")
    assert out == "model.d_model\t64\t128\n"


def test_schema_goes_to_stdout_or_to_a_file(llmkit):
    _, out, _ = llmkit("spec", "schema")
    code, _, _ = llmkit("spec", "schema", "--out", "spec.schema.json")
    assert code == 0 and json.loads(out) == json.loads(Path("spec.schema.json").read_text())
    assert json.loads(out)["$schema"].endswith("2020-12/schema")


def test_init_writes_a_recipe_and_never_overwrites(llmkit):
    code, out, _ = llmkit("spec", "init")
    assert code == 0 and "tiny.yaml" in out and load_spec("tiny.yaml") == load_spec("recipe:tiny")
    Path("tiny.yaml").write_text("mine")
    code, _, err = llmkit("spec", "init", "tiny")
    assert code == 2 and "left as it is" in err and Path("tiny.yaml").read_text() == "mine"
    assert llmkit("spec", "init", "recipe:gpt2-small", "--out", "my.yaml")[0] == 0 and load_spec("my.yaml").model.d_model == 768


def test_init_of_a_recipe_that_does_not_exist_suggests_one(llmkit):
    code, _, err = llmkit("spec", "init", "tinny")
    assert code == 2 and "did you mean 'tiny'" in err and not Path("tinny.yaml").exists()
