"""`llmkit train` at the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SPEC = {
    "tokenizer": "bytes",
    "model": {"d_model": 16, "n_layers": 1, "max_seq_len": 16, "block": {"attention": {"type": "mha", "n_heads": 2}}},
    "train": {"steps": 2, "batch_size": 2, "precision": "fp32"},
}


def llmkit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "llmkit", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("\n\n".join(f"paragraph {number} says {number * 7}" for number in range(60)))
    source = {"type": "text", "paths": ["words.txt"], "split": "paragraph"}
    data = {"source": source, "validation": 0.2, "cache": str(tmp_path / "cache")}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**SPEC, "data": data}))
    return tmp_path


def test_train_without_arguments_takes_the_spec_that_lies_here_and_prints_one_json_document(here):
    done = llmkit("train", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    keys = {"run", "step", "tokens", "train_loss", "val_loss", "val_bits_per_byte", "tokens_per_second", "resumed_from"}
    assert keys <= set(result)
    assert result["run"] == "runs/spec" and (here / "runs" / "spec" / "spec.yaml").exists()


def test_a_person_is_told_the_result_the_yardsticks_and_what_to_type_next(here):
    done = llmkit("train", "spec.yaml", "--set", "train.steps=3", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout and "xz -9e needs" in done.stdout
    assert "next: llmkit generate runs/spec" in done.stdout
    assert "step 3/3" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.yaml",), "missing.yaml"),
        (("recipe:nothing",), "nothing"),
        (("spec.yaml", "--set", "train.steps=0"), "train.steps"),
        (("spec.yaml", "--set", "data.source.paths=[nowhere/*.txt]"), "nowhere/*.txt"),
        (("spec.yaml", "--resume", "runs/none/checkpoints/step-00000001"), "step-00000001"),
        (("spec.yaml", "--processes", "3"), "batch_size"),
    ],
)
def test_the_users_mistake_exits_with_2_and_names_the_thing(here, arguments, words):
    done = llmkit("train", *arguments, cwd=here)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (here / "runs").exists()
