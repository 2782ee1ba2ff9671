"""`llmkit data report` on a directory that `data prepare` wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmkit.cli import main

Told = tuple[int, str, str]
SPEC = """
llmkit: 1
name: letters
tokenizer: {type: bytes}
model: {d_model: 16, n_layers: 1, max_seq_len: 16, block: {attention: {type: mha, n_heads: 1}}}
data:
  sources:
    good: {type: jsonl, paths: [good.jsonl]}
    short: {type: jsonl, paths: [short.jsonl]}
  filters:
    words: {type: gopher_quality, min_words: 5, min_stop_words: 0, sources: [short]}
  deduplicators: {exact: exact}
  validation: 0.3
  cache: cache
train: {tokens: 1000}
"""


@pytest.fixture
def llmkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def prepared(tmp_path: Path, llmkit: Any) -> Path:
    story = "The story number {} is told here, with a good many words in it, and then it ends."
    good = [json.dumps({"text": story.format(number)}) for number in range(12)] + [json.dumps({"text": story.format(3)}), '{"text": "cut']
    (tmp_path / "good.jsonl").write_text("\n".join(good))
    (tmp_path / "short.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ("one two", "three", story.format("x"))))
    (tmp_path / "letters.yaml").write_text(SPEC)
    code, out, err = llmkit("data", "prepare", "letters.yaml", "--out", "out", "--workers", "1", "--json")
    assert code == 0, err
    (tmp_path / "out" / "printed.json").write_text(out)
    return tmp_path / "out"


def test_it_prints_the_numbers_of_prepare_and_where_the_page_is(prepared: Path, llmkit: Any) -> None:
    before = json.loads((prepared / "printed.json").read_text())
    code, out, err = llmkit("data", "report", "out", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told.pop("report") == "out/report.html"
    assert {key: before[key] for key in told} == told
    assert (told["documents"], told["kept"], told["broken"]) == (16, 13, {"is no JSON": 1})
    by_stage = {stage["stage"]: (stage["in"], stage["out"], stage["removed"]) for stage in told["stages"]}
    assert by_stage["filters.words"] == (16, 14, 2) and by_stage["deduplicators.exact"] == (14, 13, 1)


def test_what_comes_out_of_a_stage_goes_into_the_next_and_every_loss_has_a_reason(prepared: Path, llmkit: Any) -> None:
    funnel = json.loads((prepared / "funnel.json").read_text())
    for stage, following in pairwise(funnel["stages"]):
        assert stage["after"] == following["before"], stage["stage"]
    for stage in funnel["stages"]:
        assert stage["before"]["documents"] - stage["removed"] == stage["after"]["documents"]
        assert sum(stage["reasons"].values()) == stage["removed"]
        for side, amount in enumerate(("before", "after")):
            assert sum(both[side]["documents"] for both in stage["by_source"].values()) == stage[amount]["documents"]


def test_it_writes_the_page_again_from_the_funnel_alone(prepared: Path, llmkit: Any) -> None:
    page = (prepared / "report.html").read_text()
    for path in prepared.iterdir():
        if path.is_file() and path.name != "funnel.json":
            path.unlink()
    code, out, _ = llmkit("data", "report", "out", "--json")
    assert code == 0 and json.loads(out)["shards"] is None
    assert (prepared / "report.html").read_text() == page
    assert "The story number" in page and "is no JSON" in page


def test_a_person_gets_a_line_a_stage_and_what_to_look_at(prepared: Path, llmkit: Any) -> None:
    code, out, err = llmkit("data", "report", "out")
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert code == 0
    assert lines["filters.words"][:5] == ["gopher_quality", "16", "14", "2", "66.7%"]
    assert "look: " in err and "report: out/report.html" in err


@pytest.mark.parametrize(
    ("place", "told"),
    [("nowhere", "'nowhere' does not exist; give the directory that"), (".", "'.' has no funnel.json; give the directory that")],
)
def test_a_directory_that_prepare_did_not_write_is_the_users_mistake(place: str, told: str, llmkit: Any) -> None:
    code, out, err = llmkit("data", "report", place)
    assert (code, out) == (2, "") and told in err


def test_help_has_an_example_and_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "pyarrow", "datasets"]
    code = (
        "import sys; from llmkit.cli import main; sys.argv = ['llmkit', 'data', 'report', '--help']\n"
        f"try: main()\nexcept SystemExit: pass\nprint([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Example: llmkit data report" in out and out.splitlines()[-1] == "[]"
