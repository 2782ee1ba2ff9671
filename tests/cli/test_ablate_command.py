"""`llmkit ablate` at the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SPEC = {
    "tokenizer": "bytes",
    "model": {"d_model": 16, "n_layers": 1, "max_seq_len": 16, "block": {"attention": {"type": "mha", "n_heads": 2}}},
    "train": {"steps": 3, "batch_size": 2, "precision": "fp32"},
}
STUDY = {
    "extends": "tiny.yaml",
    "axes": {"norm": {"rms": {"model.block.norm": "rmsnorm"}, "layer": {"model.block.norm": "layernorm"}}},
    "baseline": {"norm": "rms"},
    "seeds": 2,
}


def llmkit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "llmkit", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("\n\n".join(f"paragraph {number} says {number * 7}" for number in range(60)))
    source = {"type": "text", "paths": [str(tmp_path / "words.txt")], "split": "paragraph"}
    data = {"source": source, "validation": 0.2, "cache": str(tmp_path / "cache")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**SPEC, "data": data}))
    (tmp_path / "norms.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return tmp_path


def test_a_study_prints_one_document_leaves_a_report_and_is_in_the_ledger(here):
    done = llmkit("ablate", "norms.yaml", "--workers", "1", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"study", "baseline", "arms"} <= set(found)
    keys = {"name", "parameters", "flops_per_token", "seeds", "mean", "difference", "interval", "p", "p_adjusted", "verdict"}
    assert all(keys <= set(arm) for arm in found["arms"])
    assert found["command"] == "llmkit ablate norms.yaml --workers 1"
    assert "cell 4/4" in done.stderr and (here / "studies" / "norms" / "report.html").exists()

    again = llmkit("ablate", "norms.yaml", cwd=here)
    assert again.returncode == 0 and "report.html" in again.stderr and "cell" not in again.stderr
    assert [line.split("\t")[0] for line in again.stdout.splitlines()] == ["rms", "layer"]

    listed = json.loads(llmkit("ablate", "--ledger", "--json", cwd=here).stdout)["studies"]
    assert [(one["directory"], one["standing"]) for one in listed] == [("studies/norms", "complete")]
    assert listed[0]["arms"][0]["verdict"] == found["arms"][1]["verdict"]
    assert "studies/norms" in llmkit("ablate", "--ledger", "studies", cwd=here).stdout


def test_a_plan_trains_nothing_and_leaves_nothing(here):
    done = llmkit("ablate", "norms.yaml", "--plan", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    assert [arm["name"] for arm in json.loads(done.stdout)["arms"]] == ["rms", "layer"]
    assert not (here / "studies").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "which study?"),
        (("missing.yaml",), "missing.yaml"),
        (("recipe:studies/nothing",), "nothing"),
        (("norms.yaml", "--set", "seeds=0"), "seeds"),
        (("norms.yaml", "--set", "metric=nothing.score"), "nothing"),
        (("norms.yaml", "--null", "--arms", "2"), "--arms 2"),
        (("--ledger", "nowhere"), "nowhere"),
        (("norms.yaml", "--max-seeds", "9"), "--max-seeds 9 changes nothing without --until-resolved"),
        (("norms.yaml", "--salt", "data"), "--salt data changes nothing without --null"),
        (("norms.yaml", "--null", "--until-resolved"), "--until-resolved and --null are two different things"),
        (("norms.yaml", "--out", "words.txt"), "'words.txt'"),
    ],
)
def test_the_users_mistake_exits_with_2_and_names_the_thing(here, arguments, words):
    done = llmkit("ablate", *arguments, cwd=here)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (here / "studies").exists()
