"""`llmkit compare` on runs that were trained here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmkit.cli import main
from llmkit.core.spec import Spec
from llmkit.model.count import account
from llmkit.runtime import load_spec
from llmkit.train.loop import train
from llmkit.train.run import write_initialised

WORDS = ["stone", "river", "cloud", "grass", "storm", "light", "house", "bread", "water", "night"]
Told = tuple[int, str, str]


def spec_of(root: Path, *overrides: str) -> Spec:
    document = {
        "name": "words",
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "max_seq_len": 32,
            "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": {"type": "swiglu", "d_ff": 24}},
        },
        "data": {"source": {"type": "text", "paths": [str(root / "text.txt")], "split": "line"}, "validation": 0.3},
        "train": {"steps": 6, "batch_size": 4, "eval_every": 2, "precision": "fp32", "optimizer": {"type": "adamw", "lr": 0.01}},
    }
    return load_spec(document, (f"data.cache={root / 'cache'}", *overrides))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a; b with another norm and more steps; c with another tokenizer; d built and never trained."""
    root = tmp_path_factory.mktemp("compare")
    (root / "text.txt").write_text("\n".join(" ".join(WORDS[(i * 7 + k * k) % 10] for k in range(5 + i)) for i in range(60)))
    for name, overrides in {
        "a": (),
        "b": ("model.block.norm=layernorm", "train.steps=8"),
        "c": ("tokenizer={type: bpe, vocab_size: 300}",),
    }.items():
        train(spec_of(root, *overrides), out=root / name)
    write_initialised(spec_of(root), root / "d")
    return root


@pytest.fixture
def llmkit(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(runs)
    capsys.readouterr()

    def run(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["llmkit", "compare", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
        return code, *capsys.readouterr()

    return run


def test_json_tells_what_the_runs_recorded_and_how_their_specs_differ(llmkit: Any, runs: Path) -> None:
    code, out, _ = llmkit("a", "b", "--json")
    document = json.loads(out)
    a, b = document["runs"]
    assert code == 0 and document["metric"] == "val_loss"
    values = {one["address"]: one["values"] for one in document["differences"]}
    assert values["model.block.norm.type"] == ["rmsnorm", "layernorm"] and values["train.steps"] == [6, 8]
    for run, name in ((a, "a"), (b, "b")):
        result = json.loads((runs / name / "result.json").read_text())
        assert run["finished"] and {key: run[key] for key in ("step", "tokens")} == {key: result[key] for key in ("step", "tokens")}
        assert all(run[key] == result[key] for key in ("train_loss", "val_loss", "val_bits_per_byte"))
        assert run["curves"]["val_loss"][-1] == [result["tokens"], result["val_loss"]]
        assert run["best"]["val_loss"]["value"] == min(value for _, value in run["curves"]["val_loss"])
    assert [tokens for tokens, _ in a["curves"]["train_loss"]] == [128 * step for step in range(1, 7)]
    assert [tokens for tokens, _ in a["curves"]["val_loss"]] == [256, 512, 768]


def test_the_cost_is_what_build_counts(llmkit: Any, runs: Path) -> None:
    _, out, _ = llmkit("a", "d", "--json")
    counted = account(spec_of(runs))
    for run in json.loads(out)["runs"]:
        assert run["parameters"]["total"] == counted.parameters.total
        assert run["flops_per_token"]["training"] == pytest.approx(counted.flops_per_token.training)
        assert run["training_flops"] == pytest.approx(counted.flops_per_token.training * run["tokens"])


def test_other_tokenizers_are_compared_in_bits_per_byte_with_a_warning(llmkit: Any) -> None:
    _, out, _ = llmkit("a", "c", "--json")
    document = json.loads(out)
    assert document["metric"] == "val_bits_per_byte"
    assert any("different tokenizers" in text and "bits per byte" in text for text in document["warnings"])
    assert not any("different text" in text for text in document["warnings"])
    assert "different tokenizers" in llmkit("a", "c")[2]


def test_other_text_is_warned_of(llmkit: Any, runs: Path) -> None:
    shutil.copytree(runs / "a", runs / "other", dirs_exist_ok=True)
    for name in ("spec.yaml", "manifest.json"):
        file = runs / "other" / name
        text = file.read_text().replace("validation: 0.3", "validation: 0.4")
        file.write_text(re.sub(r'("validation_tokens": ")\w+', r"\1something-else", text))
    warnings = json.loads(llmkit("a", "other", "--json")[1])["warnings"]
    assert warnings == [
        "the runs were validated on different text (data.validation): a difference between them may be one between the texts"
    ]


def test_unfinished_runs_are_told_as_far_as_they_are(llmkit: Any, runs: Path) -> None:
    shutil.copytree(runs / "b", runs / "stopped", dirs_exist_ok=True)
    (runs / "stopped" / "result.json").unlink(missing_ok=True)
    lines = (runs / "stopped" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (runs / "stopped" / "metrics.jsonl").write_text("".join(lines[:4]) + lines[4][:10])
    document = json.loads(llmkit("a", "stopped", "d", "--json")[1])
    _, stopped, built = document["runs"]
    assert not stopped["finished"] and (stopped["step"], stopped["tokens"]) == (3, 384) and len(stopped["curves"]["train_loss"]) == 3
    assert (built["step"], built["train_loss"], built["curves"]["train_loss"]) == (0, None, [])
    assert sum("is not finished" in text for text in document["warnings"]) == 2
    assert llmkit("stopped", "d")[0] == 0


def test_a_person_gets_differences_figures_and_curves(llmkit: Any) -> None:
    code, out, err = llmkit("a", "b")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert code == 0 and rows["model.block.norm.type"] == ["rmsnorm", "layernorm"] and rows["steps"] == ["6", "8"]
    assert set("▁▂▃▄▅▆▇█") >= set(rows["a"][0].replace(" ", "")) and len(rows["b"][0]) == 32 and len(rows["a"][0]) < 32
    assert "different numbers of tokens" in err


def test_the_page_is_self_contained_and_has_a_curve_of_every_run(llmkit: Any, runs: Path) -> None:
    code, out, _ = llmkit("a", "c", "--plot", "curves.html", "--json")
    assert code == 0 and json.loads(out)["runs"]
    page = (runs / "curves.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http://www.w3.org", "") and "<script" not in page
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert [len(drawing.findall("polyline")) for drawing in drawings] == [2, 2, 2]
    for drawing in drawings:
        for line in drawing.findall("polyline"):
            for point in line.attrib["points"].split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= 560 and 0 <= y <= 340


def test_a_picture_is_drawn_where_matplotlib_is(llmkit: Any, runs: Path) -> None:
    pytest.importorskip("matplotlib")
    assert llmkit("a", "b", "--plot", "curves.png")[0] == 0
    assert (runs / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "two runs or more, got 1"),
        (["a", "nowhere"], "no run in 'nowhere': it has no spec.yaml; train one"),
        (["a", "b", "./a"], "run 'a' is named twice"),
        (["a", "b", "--plot", "curves.gif"], "is no .html, .png"),
        (["a", "b", "--plot", "no/curves.html"], "there is no directory 'no'"),
    ],
)
def test_mistakes_exit_2_with_a_remedy(llmkit: Any, arguments: list[str], words: str) -> None:
    code, out, err = llmkit(*arguments)
    assert (code, out) == (2, "") and words in " ".join(err.split())


def test_a_damaged_file_is_named(llmkit: Any, runs: Path) -> None:
    shutil.copytree(runs / "a", runs / "damaged", dirs_exist_ok=True)
    (runs / "damaged" / "result.json").write_text("{")
    code, _, err = llmkit("a", "damaged")
    assert code == 2 and "damaged/result.json" in "".join(err.split())


def test_nothing_heavy_is_imported(runs: Path) -> None:
    code = (
        "import sys; sys.argv = ['llmkit', 'compare', 'a', 'c', '--plot', 'p.html', '--json']\nfrom llmkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('torch', 'accelerate', 'datasets', 'tokenizers', 'transformers', 'numpy', 'scipy', 'pandas', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=runs, timeout=60)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
