"""Sources in the proportions of a mixer, through prepare, training, resuming and the ledger."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.core.errors import UserError
from llmkit.train.ledger import read_step
from llmkit.train.loop import train

STEPS = 128


@pytest.fixture
def mixed(tiny: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """512 sequences, one block of the order, of which three quarters are from the smaller source."""
    for name, size in (("large", 200), ("small", 40)):
        lines = "\n".join(f"{name} {number} says what {number * 7} says to the {name} ones" for number in range(size))
        (tmp_path / f"{name}.txt").write_text(lines)
    sources = {name: {"type": "text", "paths": [str(tmp_path / f"{name}.txt")], "split": "line"} for name in ("large", "small")}
    tiny["data"] = {
        "sources": sources,
        "mixer": {"type": "weights", "weights": {"small": 3, "large": 1}},
        "validation": 0.1,
        "cache": str(tmp_path / "cache"),
    }
    tiny["model"] |= {"d_model": 16, "n_layers": 1}
    tiny["train"] |= {"steps": STEPS, "checkpoint_every": STEPS // 2}
    return tiny


def ledger(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


def test_a_run_reads_its_sources_in_the_mixers_proportions_and_the_ledger_names_them(mixed: dict[str, Any], tmp_path: Path) -> None:
    train(llmkit.load_spec(mixed), out=tmp_path / "run")
    found: Counter[str] = Counter()
    for step in range(1, STEPS + 1):
        for sequence in read_step(str(tmp_path / "run"), step).sequences:
            # The first input may be the end-of-text of the other source's last document.
            whose = {passage.document.split(".txt")[0] for passage in sequence.passages if passage.end - passage.start > 1}
            assert len(whose) == 1
            found[Path(whose.pop()).name] += 1
    assert found == {"small": 384, "large": 128}


def test_a_mixed_run_that_is_resumed_or_accumulates_reads_what_the_undisturbed_one_reads(mixed: dict[str, Any], tmp_path: Path) -> None:
    train(llmkit.load_spec(mixed), out=tmp_path / "run")
    half = mixed | {"train": mixed["train"] | {"steps": STEPS // 2, "micro_batch_size": 2}}
    train(llmkit.load_spec(half), out=tmp_path / "half")
    train(llmkit.load_spec(mixed), out=tmp_path / "half", resume="auto")
    assert [row["items"] for row in ledger(tmp_path / "half")] == [row["items"] for row in ledger(tmp_path / "run")]


def test_another_mixture_is_another_experiment_on_the_same_tokens(mixed: dict[str, Any], tmp_path: Path) -> None:
    mixed["train"]["steps"] = 2
    train(llmkit.load_spec(mixed), out=tmp_path / "run")
    mixed["data"]["mixer"] = "even"
    mixed["train"]["steps"] = 4
    with pytest.raises(UserError, match=r"data\.mixer"):
        train(llmkit.load_spec(mixed), out=tmp_path / "run")
    train(llmkit.load_spec(mixed), out=tmp_path / "other")
    checksums = [
        json.loads((tmp_path / name / "manifest.json").read_text())["fingerprints"]["training_tokens"] for name in ("run", "other")
    ]
    assert checksums[0] == checksums[1]
    assert ledger(tmp_path / "run")[0]["items"] != ledger(tmp_path / "other")[0]["items"]
