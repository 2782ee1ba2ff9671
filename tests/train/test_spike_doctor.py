"""A planted spike is found, gone back from, told apart, and named; the run ends as one without it, on one process and on two."""

from __future__ import annotations

import importlib
import json
import math
import os
import random
import statistics
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator
from pydantic import Field
from safetensors.torch import load_file

import llmkit
from llmkit.core.catalog import Catalog, Origin
from llmkit.core.component import Component
from llmkit.core.hooks import hookimpl
from llmkit.core.host import Host
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.kinds import Kind
from llmkit.data.batches import Batches
from llmkit.data.prepare import prepare
from llmkit.data.split import is_validation
from llmkit.plugins.optimizers.adamw import AdamW
from llmkit.plugins.optimizers.components import AdamWParams
from llmkit.runtime import BUILTINS
from llmkit.train.engine import Engine
from llmkit.train.loop import train
from llmkit.train.recovery import Diverged

WORDS = "the model reads a token and says which one comes next because it has seen many before".split()  # noqa: SIM905
LENGTH = 31
"""Bytes of a document: with its end-of-text it is one sequence of 32 tokens, so that document i is sequence i."""

STEPS, SPIKE = 80, 60
SPIKES = {"policy": "rollback", "window": 32, "minimum": 16, "margin": 10, "suspects": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Screen:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def preparing(self, stage: str, done: int, total: int | None) -> None: ...

    def step(self, row: dict[str, Any], total: int) -> None: ...


def training_text(source: random.Random, write: Callable[[], str]) -> str:
    """A document of LENGTH bytes that is not held out."""
    while True:
        text = write()[:LENGTH].strip().ljust(LENGTH, ".")
        if not is_validation(text, 0.1):
            return text


@pytest.fixture
def spec(tiny: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The tiny spec on documents of one sequence each, none read twice, with checkpoints every ten steps."""
    source = random.Random(0)
    clean = [training_text(source, lambda: " ".join(source.choice(WORDS) for _ in range(12))) for _ in range(STEPS * 8 + 200)]
    held_out = (" ".join(source.choice(WORDS) for _ in range(9)) for _ in range(2000))
    documents = clean + [text for text in held_out if is_validation(text, 0.1)]
    (tmp_path / "clean.txt").write_text("\n".join(documents))
    tiny["data"] = {
        "source": {"type": "text", "paths": [str(tmp_path / "clean.txt")], "split": "line"},
        "validation": 0.1,
        "cache": str(tmp_path / "cache"),
    }
    tiny["train"] |= {"steps": STEPS, "batch_size": 8, "checkpoint_every": 10, "keep_checkpoints": 1, "spikes": SPIKES}
    return tiny


def poisoned(spec: dict[str, Any], tmp_path: Path, *, step: int = SPIKE) -> tuple[dict[str, Any], set[str]]:
    """The same with random symbols in place of seven of the eight documents that a step (from 0) reads; and how these are called."""
    loaded = llmkit.load_spec(spec)
    batches = Batches(prepare(loaded).train, seq_len=32, batch_size=8, seed=loaded.train.seed)
    source = random.Random(1)
    lines = (tmp_path / "clean.txt").read_text().split("\n")
    chosen = [int(item) for item in batches.items(step)[:7]]
    for item in chosen:
        lines[item] = training_text(source, lambda: "".join(source.choice(string.punctuation + string.digits) for _ in range(LENGTH)))
    path = tmp_path / f"poisoned-{loaded.train.seed}.txt"
    path.write_text("\n".join(lines))
    changed = {**spec, "data": {**spec["data"], "source": {**spec["data"]["source"], "paths": [str(path)]}}}
    return changed, {f"{path}#{item * (LENGTH + 1)}" for item in chosen}


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def named(report: dict[str, Any]) -> set[str]:
    return {part["document"] for one in report["sequences"] for part in one["documents"]}


class CorruptingParams(AdamWParams):
    """AdamW's, and when a weight goes wrong."""

    at: int = Field(description="after which step of the process")
    factor: float = Field(description="what a matrix is multiplied by then")


class Corrupting(AdamW):
    """AdamW in a machine that corrupts one matrix, once."""

    params: CorruptingParams

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        optimizer = super().build(parameters)
        victim = next(one.parameter for one in parameters if one.name == "embedding.weight")
        steps = 0

        def corrupt(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == self.params.at:
                victim.data.mul_(self.params.factor)

        optimizer.register_step_post_hook(corrupt)
        return optimizer


@pytest.fixture
def catalog() -> Catalog:
    """The built-ins, and the optimizer that corrupts."""

    class Plugin:
        @staticmethod
        @hookimpl
        def llmkit_components() -> list[Component]:
            return [Component(Kind.optimizer, "corrupting", CorruptingParams, f"{__name__}:Corrupting", "corrupts a weight once")]

    host = Host()
    for module in (*map(importlib.import_module, BUILTINS), Plugin):
        host.register_builtin(module, Origin("llmkit", llmkit.__version__))
    return host.catalog()


def test_poisoned_documents_are_found_in_their_step_gone_back_from_and_named(spec, tmp_path):
    bad, documents = poisoned(spec, tmp_path)
    screen = Screen()
    result = train(llmkit.load_spec(bad), out=tmp_path / "run", reporter=screen)
    (report,) = rows(tmp_path / "run", "spikes")
    assert (report["step"], report["action"], report["measure"]) == (SPIKE + 1, "rollback", "loss")
    assert report["to_step"] == 50 and report["left_out"] == [SPIKE - 3, SPIKE + 5]
    assert report["verdict"] == "bad data"
    assert [one["batch"] for one in report["suspects"] if one["anomalous"]] == [SPIKE]
    assert named(report) == documents
    assert result["spikes"] == {"found": 1, "skipped": 0, "rollbacks": 1}
    (told,) = [line for line in screen.lines if "spike" in line]
    assert f"spike at step {SPIKE + 1}: loss" in told and "back to step 50, and 8 batches" in told and "bad data" in told
    assert any(document in told for document in documents)


def test_after_a_rollback_every_step_is_told_once_and_no_batch_that_was_left_out_is_in_the_ledger(spec, tmp_path):
    bad, _ = poisoned(spec, tmp_path)
    loaded = llmkit.load_spec(bad)
    train(loaded, out=tmp_path / "run")
    ledger = rows(tmp_path / "run", "ledger")
    assert [row["step"] for row in ledger] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows(tmp_path / "run", "metrics") if "loss" in row] == list(range(1, STEPS + 1))
    batches = Batches(prepare(loaded).train, seq_len=32, batch_size=8, seed=0)
    used = [*range(SPIKE - 3), *range(SPIKE + 5, STEPS + 8)]
    assert [row["items"] for row in ledger] == [batches.items(batch).tolist() for batch in used]


def test_a_corrupted_weight_is_found_within_two_steps_gone_back_from_and_not_blamed_on_the_data(spec, catalog, tmp_path):
    clean = train(llmkit.load_spec(spec), out=tmp_path / "clean")
    spec["train"]["optimizer"] = {"type": "corrupting", "lr": 3e-3, "at": SPIKE, "factor": 20.0}
    result = train(llmkit.load_spec(spec, catalog=catalog), out=tmp_path / "run", catalog=catalog)
    (report,) = rows(tmp_path / "run", "spikes")
    assert SPIKE + 1 <= report["step"] <= SPIKE + 2
    assert (report["action"], report["to_step"], report["verdict"]) == ("rollback", 50, "bad state")
    assert not any(one["anomalous"] for one in report["suspects"]) and report["sequences"] == []
    assert result["val_loss"] == pytest.approx(clean["val_loss"], abs=0.02)


@pytest.mark.slow
def test_the_final_loss_is_within_the_noise_of_the_runs_without_a_spike(spec, tmp_path):
    clean, healed, hurt = [], [], []
    for seed in range(3):
        spec["train"] |= {"seed": seed, "spikes": SPIKES}
        clean.append(train(llmkit.load_spec(spec), out=tmp_path / f"clean-{seed}")["val_loss"])
        bad, _ = poisoned(spec, tmp_path)
        healed.append(train(llmkit.load_spec(bad), out=tmp_path / f"healed-{seed}")["val_loss"])
        bad["train"]["spikes"] = {**SPIKES, "policy": "warn"}
        hurt.append(train(llmkit.load_spec(bad), out=tmp_path / f"hurt-{seed}")["val_loss"])
    assert all(abs(one - other) < 0.01 for one, other in zip(healed, clean, strict=True))
    assert statistics.fmean(abs(one - other) for one, other in zip(healed, clean, strict=True)) < statistics.stdev(clean) / 10
    assert all(abs(one - other) < abs(bad - other) for one, bad, other in zip(healed, hurt, clean, strict=True))


def told(run: Path) -> list[tuple[Any, ...]]:
    """What was told of every step, without the clock."""
    return [(row["step"], row.get("loss"), row.get("grad_norm"), row.get("val_loss")) for row in rows(run, "metrics")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors")


class Dies(Screen):
    """Whoever hears of a spike dies: after the rollback, before the next checkpoint."""

    def say(self, text: str) -> None:
        if text.startswith("spike"):
            raise RuntimeError("killed")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Weights of an evaluation in the checkpoint, and masters beside the weights.
        pytest.param({"optimizer": {"type": "schedule_free", "lr": 1e-2}, "precision": "bf16"}, marks=pytest.mark.slow),
    ],
    ids=["adamw", "schedule_free in bf16"],
)
def test_a_run_killed_right_after_a_rollback_or_later_ends_as_one_that_was_left_alone(spec, tmp_path, changes):
    bad, _ = poisoned(spec, tmp_path)
    bad["train"] |= {"schedule": "constant", **changes}
    train(llmkit.load_spec(bad), out=tmp_path / "alone")
    with pytest.raises(RuntimeError, match="killed"):
        train(llmkit.load_spec(bad), out=tmp_path / "killed", reporter=Dies())
    assert len(rows(tmp_path / "killed", "spikes")) == 1 and told(tmp_path / "killed")[-1][0] == 50
    bad["train"]["steps"] = SPIKE + 5
    assert train(llmkit.load_spec(bad), out=tmp_path / "killed")["resumed_from"] == 50
    bad["train"]["steps"] = STEPS
    result = train(llmkit.load_spec(bad), out=tmp_path / "killed")
    assert result["resumed_from"] == SPIKE + 5 and result["spikes"]["rollbacks"] == 1
    assert rows(tmp_path / "killed", "spikes") == rows(tmp_path / "alone", "spikes")
    last = [row for row in told(tmp_path / "killed") if row[1] is not None]
    assert last == [row for row in told(tmp_path / "alone") if row[1] is not None]
    left, right = weights(tmp_path / "alone"), weights(tmp_path / "killed")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_warn_tells_the_spike_and_names_the_documents_and_changes_nothing(spec, tmp_path):
    bad, documents = poisoned(spec, tmp_path)
    bad["train"]["spikes"] = {**SPIKES, "policy": "warn"}
    screen = Screen()
    result = train(llmkit.load_spec(bad), out=tmp_path / "warned", reporter=screen)
    bad["train"]["spikes"] = {"policy": "off"}
    train(llmkit.load_spec(bad), out=tmp_path / "off")
    (report,) = rows(tmp_path / "warned", "spikes")
    assert (report["step"], report["action"]) == (SPIKE + 1, "apply") and named(report) == documents
    assert result["spikes"] == {"found": 1, "skipped": 0, "rollbacks": 0}
    assert sum(line.startswith(f"spike at step {SPIKE + 1}") for line in screen.lines) == 1
    assert told(tmp_path / "warned") == told(tmp_path / "off")
    assert not rows(tmp_path / "off", "spikes")


def test_skip_leaves_weights_and_optimizer_as_they_were_and_the_schedule_goes_on(spec, tmp_path):
    bad, documents = poisoned(spec, tmp_path)
    bad["train"] |= {"spikes": {**SPIKES, "policy": "skip"}, "checkpoint_every": 1, "keep_checkpoints": None, "steps": SPIKE + 2}
    result = train(llmkit.load_spec(bad), out=tmp_path / "run")
    (report,) = rows(tmp_path / "run", "spikes")
    assert report["action"] == "skip" and named(report) == documents
    assert result["spikes"] == {"found": 1, "skipped": 1, "rollbacks": 0}
    before, after, then = (tmp_path / "run" / "checkpoints" / f"step-{SPIKE + add:08d}" for add in range(3))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (before / name).read_bytes() == (after / name).read_bytes() != (then / name).read_bytes()
    steps = [row for row in rows(tmp_path / "run", "metrics") if "loss" in row]
    assert [row["step"] for row in steps if row.get("skipped")] == [SPIKE + 1]
    assert steps[SPIKE - 1]["learning_rate"] > steps[SPIKE]["learning_rate"] > steps[SPIKE + 1]["learning_rate"]


BLOWN_UP = {"type": "corrupting", "lr": 3e-3, "at": 5, "factor": 1e38}
"""After step 5 the gradient is no number."""


def test_a_gradient_that_is_no_number_is_gone_back_from(spec, catalog, tmp_path):
    spec["train"] |= {"optimizer": BLOWN_UP, "steps": 12, "checkpoint_every": 2, "spikes": {**SPIKES, "margin": 2}}
    result = train(llmkit.load_spec(spec, catalog=catalog), out=tmp_path / "run", catalog=catalog)
    (report,) = rows(tmp_path / "run", "spikes")
    assert (report["step"], report["grad_norm"], report["to_step"], report["verdict"]) == (6, None, 2, "bad state")
    assert result["step"] == 12


def test_an_evaluation_with_weights_that_went_wrong_does_not_end_a_run_that_can_go_back(spec, catalog, tmp_path):
    spec["train"] |= {"optimizer": {**BLOWN_UP, "factor": math.nan}, "steps": 8, "eval_every": 5, "checkpoint_every": 2}
    spec["train"]["spikes"] = {**SPIKES, "margin": 2}
    train(llmkit.load_spec(spec, catalog=catalog), out=tmp_path / "run", catalog=catalog)
    (report,) = rows(tmp_path / "run", "spikes")
    assert (report["step"], report["loss"], report["to_step"], report["verdict"]) == (6, None, 2, "bad state")
    assert [row["step"] for row in rows(tmp_path / "run", "metrics") if "val_loss" in row] == [5, 8]


def test_a_gradient_that_is_no_number_is_skipped_a_few_times_and_then_the_run_has_diverged(spec, catalog, tmp_path):
    spec["train"] |= {"optimizer": BLOWN_UP, "steps": 20, "spikes": {"policy": "skip", "patience": 3}}
    with pytest.raises(Diverged, match=r"at step 9 the loss is .* and the gradient norm nan.*lower train\.optimizer\.lr"):
        train(llmkit.load_spec(spec, catalog=catalog), out=tmp_path / "run", catalog=catalog)
    assert [row["action"] for row in rows(tmp_path / "run", "spikes")] == ["skip"] * 3 + ["diverge"]
    assert [row["grad_norm"] for row in rows(tmp_path / "run", "metrics")][5:] == [None] * 3


def test_a_spike_before_the_first_checkpoint_goes_back_to_the_initial_values(spec, catalog, tmp_path):
    spec["train"] |= {"optimizer": BLOWN_UP, "steps": 12}
    train(llmkit.load_spec(spec, catalog=catalog), out=tmp_path / "run", catalog=catalog)
    (report,) = rows(tmp_path / "run", "spikes")
    assert (report["step"], report["to_step"], report["left_out"]) == (6, 0, [2, 10])
    spec["train"] |= {"optimizer": {"type": "adamw", "lr": 3e-3}}
    train(llmkit.load_spec(spec), out=tmp_path / "clean")
    assert told(tmp_path / "run")[:2] == told(tmp_path / "clean")[:2]


def test_a_state_that_is_always_bad_ends_after_three_rollbacks(spec, tmp_path):
    spec["train"] |= {"optimizer": {"type": "sgd", "lr": 1e30}, "grad_clip": None, "schedule": "constant", "steps": 12}
    with pytest.raises(Diverged, match="after 3 rollbacks"):
        train(llmkit.load_spec(spec), out=tmp_path / "run")
    reports = rows(tmp_path / "run", "spikes")
    assert [one["action"] for one in reports] == ["rollback"] * 3 + ["diverge"]
    assert [end - first for first, end in (one["left_out"] for one in reports[:3])] == [6, 10, 18]


def test_fp16s_scaler_takes_the_next_step_as_if_none_had_been_discarded(spec):
    loaded = llmkit.load_spec(spec)
    batches = Batches(prepare(loaded).train, seq_len=32, batch_size=8, seed=0)
    ends = []
    for discards in (False, True):
        engine = Engine(loaded, Accelerator(cpu=True))
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        for batch, kept in ((0, True), (5, False), (1, True), (2, True)):
            if not kept and not discards:
                continue
            engine.gradients([batches.batch(batches.items(batch))], 256)
            engine.clip(1.0)
            (engine.update if kept else engine.discard)()
        ends.append((engine.scaler.get_scale(), engine.saved()))
    assert ends[0][0] == ends[1][0] == 2048.0
    assert all(torch.equal(ends[0][1][name], ends[1][1][name]) for name in ends[0][1])


@pytest.mark.slow
def test_two_ranks_decide_and_report_as_one_process_does(spec, tmp_path):
    bad, documents = poisoned(spec, tmp_path)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(bad))
    train(llmkit.load_spec(bad), out=tmp_path / "one")
    script = tmp_path / "ranks.py"
    script.write_text(
        "import json, os, sys, llmkit\nfrom pathlib import Path\nfrom llmkit.train.loop import train\n"
        "result = train(llmkit.load_spec(sys.argv[1]), out=Path(sys.argv[2]))\n"
        "Path(sys.argv[2] + '-' + os.environ['RANK'] + '.json').write_text(json.dumps(result))\n"
    )
    rendezvous = ["--master_port", "0", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *rendezvous]
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path / "spec.yaml"), str(tmp_path / "two")],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert results[0]["spikes"] == results[1]["spikes"] == {"found": 1, "skipped": 0, "rollbacks": 1}
    assert results[0]["train_loss"] == results[1]["train_loss"]
    (one,), (two,) = rows(tmp_path / "one", "spikes"), rows(tmp_path / "two", "spikes")
    assert named(two) == documents
    for key in ("step", "action", "measure", "batch", "items", "to_step", "left_out", "verdict"):
        assert two[key] == one[key]
    assert [row["loss"] for row in two["suspects"]] == pytest.approx([row["loss"] for row in one["suspects"]], abs=1e-5)
    assert [row["loss"] for row in two["sequences"]] == pytest.approx([row["loss"] for row in one["sequences"]], abs=1e-5)
    assert [row["items"] for row in rows(tmp_path / "two", "ledger")] == [row["items"] for row in rows(tmp_path / "one", "ledger")]
