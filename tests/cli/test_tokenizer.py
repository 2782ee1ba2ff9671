"""`llmkit tokenizer train` and `compare`, as a person types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmkit.cli import main
from llmkit.data.prepare import prepare
from llmkit.runtime import load_spec
from llmkit.train.run import write_initialised

WORDS = ["stone", "river", "cloud", "grass", "storm", "light", "house", "bread", "water", "night"]
Told = tuple[int, str, str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of two sources, their text, and a run that was built."""
    root = tmp_path_factory.mktemp("tokenizer")
    for name, factor in (("one", 1), ("two", 3)):
        lines = (f"{name} " + " ".join(WORDS[(i * 7 + k * k * factor) % 10] for k in range(4 + i % 5)) + f" {i}" for i in range(200))
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "german.txt").write_text("Übermäßige Größe, 12345 Häuser\n" * 5)
    document = {
        "name": "mixed",
        "tokenizer": {"type": "bpe", "vocab_size": 300},
        "model": {"d_model": 16, "n_layers": 1, "max_seq_len": 32, "block": {"attention": {"type": "mha", "n_heads": 2}}},
        "data": {
            "sources": {name: {"type": "text", "paths": [str(root / f"{name}.txt")], "split": "line"} for name in ("one", "two")},
            "cache": str(root / "cache"),
            "validation": 0.2,
        },
        "train": {"steps": 1},
    }
    (root / "spec-of-two.yaml").write_text(json.dumps(document))
    write_initialised(load_spec(root / "spec-of-two.yaml", ["tokenizer=bytes"]), root / "run")
    write_initialised(load_spec(root / "spec-of-two.yaml"), root / "trained")
    write_initialised(load_spec(root / "spec-of-two.yaml"), root / "untrained")
    return root


@pytest.fixture
def llmkit(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(root)

    def run(*arguments: str) -> Told:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_tokenizer_of_a_spec_is_the_one_that_training_uses(llmkit: Any, root: Path) -> None:
    code, out, _ = llmkit("tokenizer", "train", "spec-of-two.yaml", "--out", "made/two", "--json")
    told = json.loads(out)
    assert code == 0 and told["tokenizer"] == "made/two" and told["vocab_size"] == 300 and told["measured_on"] == "held-out documents"
    spec = load_spec(root / "spec-of-two.yaml")
    prepared = prepare(spec)
    assert told["fingerprint"] == prepared.tokenizer.fingerprint()
    documents = [document.text for document in prepared.validation_documents()]
    tokens = sum(len(prepared.tokenizer.encode(text)) for text in documents)
    assert told["bytes_per_token"] == pytest.approx(sum(len(text.encode()) for text in documents) / tokens)


@pytest.mark.slow
def test_transformers_loads_what_was_trained_on_files_with_its_template(llmkit: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    chosen = '{type: unigram, vocab_size: 320, special_tokens: ["<|im_start|>", "<|im_end|>"], chat_template: chatml}'
    code, out, _ = llmkit("tokenizer", "train", "--text", "one.txt", "--set", f"tokenizer={chosen}", "--out", "made/chat", "--json")
    assert code == 0 and json.loads(out)["chat_template"] is True
    theirs = transformers.AutoTokenizer.from_pretrained(str(root / "made/chat"))
    assert len(theirs) == json.loads(out)["vocab_size"]
    text = (root / "one.txt").read_text()
    assert len(text) / len(theirs.encode(text)) == pytest.approx(json.loads(out)["bytes_per_token"])
    messages = [{"role": "user", "content": "stone"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == "<|im_start|>user\nstone<|im_end|>\n"


def test_a_sample_gives_another_tokenizer_and_the_same_each_time(llmkit: Any) -> None:
    made = {}
    for name, size in (("a", "3000"), ("b", "3000"), ("c", "100000")):
        code, out, _ = llmkit("tokenizer", "train", "--text", "*.txt", "--sample-bytes", size, "--out", f"made/sample-{name}", "--json")
        assert code == 0
        made[name] = json.loads(out)["fingerprint"]
    assert made["a"] == made["b"] != made["c"]


def test_tokenizers_of_every_sort_stand_side_by_side(llmkit: Any, root: Path) -> None:
    llmkit("tokenizer", "train", "spec-of-two.yaml", "--out", "made/files")
    shutil.copytree(root / "made/files", root / "trained/tokenizer")
    arguments = ["made/files", "json=made/files/tokenizer.json", "trained", "run:run", "bytes", "bpe", "small={type: bpe, vocab_size: 270}"]
    code, out, err = llmkit(
        "tokenizer", "compare", *arguments, "--spec", "spec-of-two.yaml", "--text", "de=german.txt", "--rounds", "1", "--json"
    )
    assert code == 0, err
    told = json.loads(out)
    assert [text["name"] for text in told["texts"]] == ["one", "two", "de"]
    by_name = {one["name"]: one for one in told["tokenizers"]}
    assert list(by_name) == ["files", "json", "trained", "run", "bytes", "bpe 300", "small"]
    assert len({by_name[name]["bytes_per_token"] for name in ("files", "json", "trained", "bpe 300")}) == 1
    assert by_name["run"]["bytes_per_token"] == by_name["bytes"]["bytes_per_token"] == 1.0
    assert by_name["small"]["vocab_size"] == 270 and by_name["small"]["bytes_per_token"] < by_name["bpe 300"]["bytes_per_token"]
    assert by_name["bpe 300"]["round_trip"]["changed"] == []


def test_without_a_terminal_tables_are_lines_and_a_page_is_self_contained(llmkit: Any, root: Path) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = llmkit("tokenizer", "compare", "bytes", "--text", "german.txt", "--rounds", "1", "--plot", "page.html")
    assert code == 0 and "wrote page.html" in err
    assert out.splitlines()[0].split("\t")[:3] == ["bytes", "258", "1.000"]
    page = (root / "page.html").read_text()
    assert "<svg" in page and "<script" not in page and "german.txt" in page
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href", "xlink:href"))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_is_drawn(llmkit: Any, root: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    assert llmkit("tokenizer", "compare", "bytes", "--text", "german.txt", "--rounds", "1", "--plot", f"picture.{ending}")[0] == 0
    assert (root / f"picture.{ending}").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--text", "nothing.txt"], "--text 'nothing.txt': it does not exist"),
        (["train", "--text", "one.txt", "--out", "untrained"], "--out 'untrained' is there already and is left as it is"),
        (["train", "--text", "one.txt", "--set", "tokenizer=bytes", "--sample-bytes", "10"], "sample_bytes"),
        (["train", "--text", "one.txt", "--set", "tokenizer.chat_template=chatml"], 'special_tokens: ["<|im_start|>", "<|im_end|>"]'),
        (["compare", "bytes"], "there is nothing to compare on; give --text FILE"),
        (["compare", "bpe", "--text", "one.txt"], "learns from text; give --train-text FILE"),
        (["compare", "bpx", "--text", "one.txt"], "did you mean 'bpe'?"),
        (["compare", "some/where", "--text", "one.txt"], "there is no 'some/where'"),
        (["compare", "run:cache", "--text", "one.txt"], "is no run: it has no spec.yaml"),
        (["compare", "untrained", "--text", "one.txt"], "run 'untrained' has no tokenizer: it was built and never trained"),
        (["compare", "one.txt", "--text", "one.txt"], "'one.txt' is no JSON"),
        (["compare", "bytes", "bytes", "--text", "one.txt"], "two tokenizers are called 'bytes'"),
        (["compare", "bytes", "--text", "one.txt", "--plot", "x.gif"], "is no .html, .png, .svg or .pdf"),
    ],
)
def test_mistakes_are_told_without_a_traceback(llmkit: Any, arguments: list[str], message: str) -> None:
    code, out, err = llmkit("tokenizer", *arguments)
    assert code == 2 and out == "" and message in " ".join(err.split()) and "Traceback" not in err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nsys.argv = ['llmkit', 'tokenizer', 'compare', '--help']\nfrom llmkit.cli import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'tokenizers', 'numpy', 'transformers', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example: llmkit tokenizer compare" in done.stdout
