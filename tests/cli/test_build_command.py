"""`llmkit build`: keys, tables, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from llmkit import build, load_spec
from llmkit.cli import main
from llmkit.train.checkpoint import latest

SPEC = {
    "tokenizer": "bytes",
    "model": {
        "d_model": 32,
        "n_layers": 2,
        "max_seq_len": 16,
        "position": "learned",
        "block": {"attention": {"type": "mha", "n_heads": 4}},
    },
    "train": {"steps": 1},
}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SPEC))
    return file


@pytest.fixture
def llmkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llmkit", "build", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return code, *capsys.readouterr()

    return call


def test_json_has_the_promised_keys(llmkit: Any, spec: Path) -> None:
    code, out, _ = llmkit(spec, "--json")
    document = json.loads(out)
    assert code == 0 and document["name"] == "small"
    assert set(document["parameters"]) == {"total", "embedding", "non_embedding"}
    assert set(document["flops_per_token"]) == {"forward", "training"}
    assert document["kv_cache_bytes_per_token"] == 2 * 2 * 32 * 2
    keys = {"address", "kind", "type", "distribution", "version", "revision", "parameters"}
    assert all(set(row) == keys for row in document["components"])
    addresses = [row["address"] for row in document["components"]]
    assert addresses[:3] == ["tokenizer", "model.position", "model.block.attention"]


def test_set_overrides_by_address(llmkit: Any, spec: Path) -> None:
    one, two = (json.loads(llmkit(spec, "--json", "--set", f"model.n_layers={layers}")[1]) for layers in (1, 2))
    assert 2 * one["kv_cache_bytes_per_token"] == two["kv_cache_bytes_per_token"]
    assert json.loads(llmkit(spec, "--json", "--set", "model.block.norm=layernorm")[1])["components"][4]["type"] == "layernorm"


def test_a_persons_lines_add_up_to_the_total(llmkit: Any, spec: Path) -> None:
    code, out, _ = llmkit(spec)
    lines = out.splitlines()
    rows = [line.split() for line in lines if ":" not in line]
    [total] = [line for line in lines if line.startswith("parameters: ")]
    assert code == 0 and sum(int(row[-1]) for row in rows) == int(total.split()[1].replace(",", ""))


def test_out_writes_a_run_with_the_initial_values(llmkit: Any, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "new"
    code, stdout, _ = llmkit(spec, "--out", out, "--json")
    assert code == 0 and json.loads(stdout)["name"] == "small"
    written = load_spec(out / "spec.yaml")
    found = latest(out / "checkpoints", print)
    assert found is not None and found.step == 0
    model, fresh = build(written, seed=7), build(load_spec(spec))
    found.load_model(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True))


def test_out_refuses_what_is_not_an_empty_directory_and_touches_nothing(llmkit: Any, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    assert llmkit(spec, "--out", tmp_path / "empty")[0] == 0
    for occupied in (tmp_path / "full", tmp_path / "full" / "note.txt", tmp_path / "empty"):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = llmkit(spec, "--out", occupied, "--json")
        assert (code, out) == (2, "") and occupied.name in err and "new directory" in err
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("source", "says"), [("nowhere.yaml", "nowhere.yaml"), ("recipe:gpt9", "gpt9")])
def test_a_spec_that_is_not_there_exits_2(llmkit: Any, source: str, says: str) -> None:
    code, out, err = llmkit(source, "--json")
    assert (code, out) == (2, "") and says in err


def test_a_mistake_in_the_spec_exits_2(llmkit: Any, spec: Path) -> None:
    code, out, err = llmkit(spec, "--set", "model.block.attention.n_heads=5")
    assert (code, out) == (2, "") and "n_heads" in err


def test_a_terminal_gets_a_table(llmkit: Any, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.cli.build.result", Console(force_terminal=True, width=100))
    _, out, _ = llmkit(spec)
    assert "model.block.attention" in out and "│" in out and "KV cache a token" in out


HELP = """
import sys
from llmkit.cli import main
sys.argv = ["llmkit", sys.argv[1], "--help"]
try:
    main()
except SystemExit:
    print([name for name in ("torch", "numpy", "tokenizers", "accelerate", "transformers") if name in sys.modules])
"""


@pytest.mark.parametrize("command", ["build", "generate"])
def test_help_imports_nothing_heavy(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, command], capture_output=True, text=True, check=True)
    assert "Example: llmkit" in done.stdout and done.stdout.endswith("[]\n")


@pytest.mark.slow
def test_a_coordinate_check_tells_slopes_and_draws_them(llmkit: Any, spec: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "check.svg"
    code, out, _ = llmkit(spec, "--coord-check", "--plot", plot, "--json")
    told = json.loads(out)
    assert code == 0 and {row["width"] for row in told["coordinates"]} == {32, 64, 128, 256}
    assert {"embedding", "blocks.1.attention", "blocks.0.ffn", "norm", "head"} <= told["slopes"].keys()
    assert plot.read_text().count("<path") > 50


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plot", "x.png"], "add --coord-check"),
        (["--coord-check", "--plot", "x.txt"], "is no .png, .svg or .pdf"),
        (["--coord-check", "--plot", "nowhere/x.png"], "there is no directory 'nowhere'"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused_at_once(llmkit: Any, spec: Path, arguments: list[str], says: str) -> None:
    code, _, err = llmkit(spec, *arguments)
    assert code == 2 and says in err
