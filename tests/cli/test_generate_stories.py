"""The whole way with real, published weights and their real tokenizer: what their author printed, at the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llmkit import build, load_spec
from llmkit.cli import main
from llmkit.train import checkpoint
from llmkit.train.run import RunDirectory, write_initialised

FILES = Path(__file__).parents[2] / "../shared/data/stories260K"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the stories260K weights are not beside this repository")

OURS = (
    ("model.layers", "blocks"), ("model.embed_tokens", "embedding"), ("model.norm", "norm"), ("lm_head", "head"),
    ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attention_norm"), ("self_attn.", "attention."), ("mlp.", "ffn."),
    ("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output"), ("_proj", ""),
)  # fmt: skip


def our_name(name: str) -> str:
    for theirs, ours in OURS:
        name = name.replace(theirs, ours)
    return name


@pytest.fixture
def run(tmp_path: Path) -> Path:
    block = {
        "attention": {"type": "gqa", "n_heads": 8, "n_kv_heads": 4},
        "ffn": {"type": "swiglu", "d_ff": 172},
        "norm": {"type": "rmsnorm", "eps": 1e-5},
    }
    spec = load_spec(
        {
            "name": "stories",
            "tokenizer": {"type": "pretrained", "path": str(FILES / "hf")},
            "model": {"d_model": 64, "n_layers": 5, "max_seq_len": 512, "block": block, "tie_embeddings": True},
            "train": {"steps": 1},
        }
    )
    directory = RunDirectory(tmp_path / "run")
    write_initialised(spec, directory.root)
    model = build(spec)
    weights = {our_name(name): value for name, value in load_file(FILES / "hf/model.safetensors").items()}
    model.load_state_dict(weights | {"head.weight": weights["embedding.weight"]})
    shutil.rmtree(directory.checkpoints)
    checkpoint.write(directory.checkpoints, 0, model, trainer={"tokens": 0, "seed": 0})
    directory.tokenizer.mkdir(exist_ok=True)
    spec.tokenizer.component.resolve().train(spec.tokenizer.params, []).save(directory.tokenizer)
    return directory.root


def test_real_weights_write_the_published_story_from_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompt", "", "--temperature", "0", "--max-new-tokens", "256", "--json"]
    monkeypatch.setattr(sys, "argv", ["llmkit", "generate", str(run), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    document = json.loads(capsys.readouterr().out)
    golden = (FILES / "GOLDEN.txt").read_text(encoding="utf-8").strip()
    assert not ended.value.code and len(golden) > 500
    assert document["completions"][0].strip() == golden
    assert document["tokens"] == 256
