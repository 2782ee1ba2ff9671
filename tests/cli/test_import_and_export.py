"""`llmkit import` and `llmkit export` at the command line: keys, words for a person, mistakes; and real, published weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from llmkit.cli import main

transformers = pytest.importorskip("transformers")

STORIES = Path(__file__).parents[2] / "../shared/data/stories260K"


def llmkit(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["llmkit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=270, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=64, sliding_window=8,
    )  # fmt: skip
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def test_both_print_the_proof_as_json(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert llmkit(monkeypatch, "import", published, "--out", tmp_path / "run", "--json") == 0
    imported = json.loads(capsys.readouterr().out)
    assert llmkit(monkeypatch, "export", tmp_path / "run", tmp_path / "back", "--json") == 0
    exported = json.loads(capsys.readouterr().out)
    for document in (imported, exported):
        assert document["architecture"] == "MistralForCausalLM"
        assert document["max_abs_logit_difference"] < 1e-4
        assert document["greedy_tokens_equal"] is True
    assert imported["run"] == str(tmp_path / "run") and exported["directory"] == str(tmp_path / "back")


def test_a_person_reads_what_was_compared_and_what_is_missing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert llmkit(monkeypatch, "import", published, "--out", tmp_path / "run") == 0
    shown = capsys.readouterr()
    assert "architecture: MistralForCausalLM" in shown.out and "greedy tokens: equal" in shown.out
    assert "it has no tokenizer" in shown.err


def test_a_gguf_file_is_written_with_the_same_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    config = transformers.LlamaConfig(
        vocab_size=270, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, attention_bias=True,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "hf")
    assert llmkit(monkeypatch, "import", tmp_path / "hf", "--out", tmp_path / "run", "--json") == 0
    capsys.readouterr()
    assert llmkit(monkeypatch, "export", tmp_path / "run", tmp_path / "out", "--format", "gguf", "--dtype", "q8_0", "--json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["architecture"] == "LlamaForCausalLM" and exported["max_abs_logit_difference"] < 1e-4
    assert exported["greedy_tokens_equal"] is True and exported["directory"] == str(tmp_path / "out")
    assert (tmp_path / "out/model.gguf").is_file() and (tmp_path / "out/proof.json").is_file()
    assert llmkit(monkeypatch, "export", tmp_path / "run", tmp_path / "again", "--format", "gguf") == 0
    assert "transformers reads from such files no attention_bias, and was told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--format", "gguf", "--shard-size", "2GB"], "--shard-size '2GB' goes with --format hf"),
        (["--no-tokenizer"], "--no-tokenizer goes with --format gguf"),
        (["--dtype", "q8_0"], "--dtype 'q8_0' must be one of fp32, bf16, fp16"),
        (["--format", "gguf", "--dtype", "q4_0"], "--dtype 'q4_0' must be one of fp32, fp16, bf16, q8_0"),
        (["--format", "gguf"], "the nearest is llama, where this is in the way"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    options: list[str],
    reason: str,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert llmkit(monkeypatch, "import", published, "--out", tmp_path / "run", "--json") == 0
    capsys.readouterr()
    assert llmkit(monkeypatch, "export", tmp_path / "run", tmp_path / "out", *options) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_told_in_a_sentence_and_exits_2(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert llmkit(monkeypatch, "import", tmp_path / "nowhere", "--out", tmp_path / "run") == 2
    assert "does not exist; give a Hugging Face directory or a GGUF file" in capsys.readouterr().err
    assert llmkit(monkeypatch, "import", published, "--out", tmp_path / "run", "--json") == 0
    capsys.readouterr()
    assert llmkit(monkeypatch, "export", tmp_path / "run", tmp_path / "back", "--family", "gpt2") == 2
    told = capsys.readouterr().err
    assert "family gpt2 cannot express 'run'" in told and "model.block.attention.window: the spec has 8, gpt2 has none" in told
    assert not (tmp_path / "back").exists()


@pytest.mark.skipif(not STORIES.is_dir(), reason="the stories260K weights are not beside this repository")
def test_published_weights_are_imported_and_write_the_published_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert llmkit(monkeypatch, "import", STORIES / "hf", "--out", tmp_path / "run", "--json") == 0
    capsys.readouterr()
    arguments = ["--prompt", "", "--temperature", "0", "--max-new-tokens", "256", "--json"]
    assert llmkit(monkeypatch, "generate", tmp_path / "run", *arguments) == 0
    written = json.loads(capsys.readouterr().out)["completions"][0].strip()
    golden = (STORIES / "GOLDEN.txt").read_text(encoding="utf-8").strip()
    assert len(golden) > 500 and written == golden
