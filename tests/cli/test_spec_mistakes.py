"""A mistake in a spec: exit code 2, its file, line and column, and what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from llmkit.cli import main

SPEC = """\
tokenizer: bytes
model:
  d_model: 64
  n_layers: 2
  max_seq_len: 32
  position: rope
  block:
    attention: {type: mha, n_heads: 4}
    norm: rmsnorm
train:
  steps: 10
  batch_size: 8
"""


class Mistake(NamedTuple):
    """`old` becomes `new`; the message stands at `line:column`, names `address`, and `says` what to do."""

    old: str
    new: str
    line: int
    column: int
    address: str
    says: str


MISTAKES = {
    "a tab that indents": Mistake("  d_model: 64", "\td_model: 64", 3, 1, "", "use spaces"),
    "a bracket that is not closed": Mistake(
        "n_heads: 4}", "n_heads: 4", 9, 9, "", r"begun at spec\.yaml:8:16\); check indentation, colons, quotes and brackets"
    ),
    "a colon without its space": Mistake("  n_layers: 2", "  n_layers:2", 4, 3, "", "needs a colon and a space after it; add them here"),
    "a key given twice": Mistake(
        "  n_layers: 2", "  n_layers: 2\n  d_model: 32", 5, 3, "model.d_model", r"first at spec\.yaml:3:3; remove one"
    ),
    "a list instead of a mapping": Mistake(SPEC, "- tokenizer: bytes\n", 1, 1, "", "begin with `model:`"),
    "a tag that would run code": Mistake("tokenizer: bytes", "tokenizer: !!python/name:os.system x", 1, 12, "tokenizer", "remove it"),
    "a key that is misspelt": Mistake("n_layers: 2", "n_layer: 2", 4, 3, "model.n_layer", "did you mean 'n_layers'"),
    "a key that is missing": Mistake("  n_layers: 2\n", "", 2, 1, "model.n_layers", "add `n_layers:` here"),
    "a key in the wrong place": Mistake("  batch_size: 8", "  n_heads: 4", 12, 3, "train.n_heads", "belongs under 'model.block.attention'"),
    "a whole part that is missing": Mistake(SPEC[SPEC.index("model:") : SPEC.index("train:")], "", 1, 1, "model.d_model", "add `d_model:`"),
    "text for a number": Mistake("d_model: 64", "d_model: wide", 3, 12, "model.d_model", "expected a whole number, got 'wide'"),
    "a fraction for a whole number": Mistake("n_layers: 2", "n_layers: 2.5", 4, 13, "model.n_layers", "expected a whole number, got 2.5"),
    "true for a number": Mistake("n_layers: 2", "n_layers: true", 4, 13, "model.n_layers", "write the number"),
    "a number out of its bounds": Mistake("d_model: 64", "d_model: 0", 3, 12, "model.d_model", "must be greater than 0, got 0"),
    "nothing where a part should be": Mistake(
        "train:\n  steps: 10\n  batch_size: 8\n", "train:\n", 10, 7, "train", "expected a mapping, got nothing"
    ),
    "a word that is no choice": Mistake("norm: rmsnorm", "layout: prae", 9, 13, "model.block.layout", r"did you mean 'pre'\?"),
    "a component that does not exist": Mistake("norm: rmsnorm", "norm: rmsnrom", 9, 11, "model.block.norm", "did you mean 'rmsnorm'"),
    "a plugin that is not installed": Mistake(
        "norm: rmsnorm", "norm: acme.norm", 9, 11, "model.block.norm", "install the plugin that brings it"
    ),
    "a slot without its type": Mistake("norm: rmsnorm", "norm: 3", 9, 11, "model.block.norm", "its name, or a mapping with its `type`"),
    "a component's parameter misspelt": Mistake("n_heads: 4", "n_head: 4", 8, 28, "model.block.attention.n_head", "did you mean 'n_heads'"),
    "a component's parameter missing": Mistake(
        "type: mha", "type: gqa", 8, 5, "model.block.attention.n_kv_heads", "add `n_kv_heads:` here"
    ),
    "a nested choice that does not exist": Mistake(
        "position: rope", "position: {type: rope, scaling: {type: llama4}}", 6, 42, "model.position.scaling", "'llama3', 'yarn'"
    ),
    "heads that do not divide the width": Mistake("n_heads: 4", "n_heads: 5", 8, 5, "model.block.attention", "give head_width"),
    "groups that do not divide the heads": Mistake(
        "type: mha, n_heads: 4", "type: gqa, n_heads: 4, n_kv_heads: 3", 8, 5, "model.block.attention", "change one of them"
    ),
    "an odd head for a rotary position": Mistake(
        "n_heads: 4", "n_heads: 4, head_width: 15", 6, 13, "model.position", "make what is turned even"
    ),
    "steps and tokens together": Mistake("  batch_size: 8", "  tokens: 2_000_000", 12, 3, "train.tokens", "excludes 'train.steps'"),
    "neither steps nor tokens": Mistake("steps: 10", "steps: null", 10, 1, "train", "give one of them"),
    "a micro-batch that does not divide": Mistake(
        "batch_size: 8", "batch_size: 8\n  micro_batch_size: 3", 13, 21, "train.micro_batch_size", "change one of them"
    ),
    "fewer rows than the tokenizer has ids": Mistake(
        "  n_layers: 2", "  n_layers: 2\n  vocab_size: 200", 5, 15, "model.vocab_size", "258 or more"
    ),
    "a pattern without blocks": Mistake("  n_layers: 2", "  n_layers: 2\n  pattern: [local]", 5, 3, "model.pattern", "add `blocks:`"),
    "a pattern that names no block": Mistake(
        "  n_layers: 2",
        "  n_layers: 2\n  blocks: {local: {}, full: {}}\n  pattern: [local, fulll]",
        6,
        20,
        "model.pattern.1",
        "did you mean 'full'",
    ),
    "sequences beyond a position that ends": Mistake(
        SPEC[SPEC.index("  position") :], "  position: learned\ntrain: {seq_len: 64}\n", 7, 18, "train.seq_len", r"raise model\.max_seq_len"
    ),
    "a distribution that is not installed": Mistake(
        "tokenizer: bytes", 'requires: ["llmkit-nowhere>=2"]', 1, 12, "requires.0", "pip install 'llmkit-nowhere>=2'"
    ),
    "a version that is not met": Mistake("tokenizer: bytes", 'requires: ["pydantic>=99"]', 1, 12, "requires.0", "pip install --upgrade"),
    "extending a file that is not there": Mistake("tokenizer: bytes", "extends: ground.yaml", 1, 10, "extends", "give the path of a spec"),
    "extending itself": Mistake("tokenizer: bytes", "extends: spec.yaml", 1, 10, "extends", "break the circle"),
    "a name that leaves the directory": Mistake("tokenizer: bytes", "name: ../elsewhere", 1, 7, "name", "use letters"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def write(here: Path, mistake: Mistake) -> None:
    assert mistake.old in SPEC
    (here / "spec.yaml").write_text(SPEC.replace(mistake.old, mistake.new))


def test_the_spec_without_a_mistake_has_no_problems(here, monkeypatch, capsys):
    (here / "spec.yaml").write_text(SPEC)
    assert run(monkeypatch, "spec", "check", "spec.yaml") == 0
    assert capsys.readouterr().out == "no problems in spec.yaml\n"


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_place_and_a_remedy(here, monkeypatch, capsys, mistake):
    write(here, mistake)
    assert run(monkeypatch, "spec", "check", "spec.yaml") == 2
    told = capsys.readouterr()
    assert told.out == "" and "Traceback" not in told.err
    where = f"spec.yaml:{mistake.line}:{mistake.column}: " + (f"{mistake.address}: " if mistake.address else "")
    lines = [line.removeprefix("error: ") for line in told.err.splitlines()]
    meant = [line for line in lines if line.startswith(where)]
    assert meant, f"nothing at {where!r} in {lines}"
    assert re.search(mistake.says, meant[0])


@pytest.mark.parametrize("name", ["a key that is missing", "heads that do not divide the width", "a tab that indents"])
def test_every_command_that_takes_a_spec_exits_2_without_a_traceback(here, name):
    mistake = MISTAKES[name]
    write(here, mistake)
    for command in (["build"], ["train"], ["spec", "show"]):
        done = subprocess.run(
            [sys.executable, "-m", "llmkit", *command, "spec.yaml"], cwd=here, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2
        assert f"spec.yaml:{mistake.line}:{mistake.column}:" in done.stderr and "Traceback" not in done.stderr


OVERRIDES = {
    "without its equals sign": ("model.d_model", "", "write ADDRESS=VALUE"),
    "of a value of the wrong type": ("model.d_model=wide", "model.d_model", "expected a whole number, got 'wide'"),
    "of a key that does not exist": ("model.d_modle=3", "model.d_modle", "did you mean 'd_model'"),
    "of a component that lacks a parameter": ("model.block.attention.type=gqa", "model.block.attention.n_heads", "add `n_heads:` here"),
    "of an item that is not there": ("eval.3.type=perplexity", "eval", "set the whole list"),
    "that is no YAML": ("model.position={type: rope", "", "not valid YAML"),
    "of what is computed": ("derived.train.steps=3", "derived", "set what it stands for"),
}


@pytest.mark.parametrize(("override", "address", "says"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_a_wrong_override_is_told_by_itself(here, monkeypatch, capsys, override, address, says):
    (here / "spec.yaml").write_text(SPEC)
    assert run(monkeypatch, "spec", "check", "spec.yaml", "--set", override) == 2
    told = capsys.readouterr().err
    assert f"--set {override}: " + (f"{address}: " if address else "") in told and says in told


def test_a_mistake_in_an_extended_file_is_told_there(here, monkeypatch, capsys):
    (here / "below").mkdir()
    (here / "below" / "ground.yaml").write_text(SPEC.replace("steps: 10", "stepz: 10"))
    (here / "spec.yaml").write_text("extends: below/ground.yaml\nmodel:\n  n_layers: 0\n")
    assert run(monkeypatch, "spec", "check", "spec.yaml") == 2
    told = capsys.readouterr().err
    assert "below/ground.yaml:11:3: train.stepz: " in told and "spec.yaml:3:13: model.n_layers: " in told


def test_all_problems_are_told_at_once(here, monkeypatch, capsys):
    (here / "spec.yaml").write_text(SPEC.replace("d_model: 64", "d_model: -1").replace("n_layers: 2", "layers: 2").replace("rope", "ropes"))
    assert run(monkeypatch, "spec", "check", "spec.yaml") == 2
    told = capsys.readouterr().err
    assert all(place in told for place in ("spec.yaml:3:12", "spec.yaml:4:3", "spec.yaml:6:13", "spec.yaml:2:1: model.n_layers"))
