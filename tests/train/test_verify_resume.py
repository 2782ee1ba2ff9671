"""`llmkit verify-resume` proves that resuming is exact, and finds whatever makes it otherwise."""

import json
import os
import random
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import llmkit
from llmkit.cli import app
from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import Batch
from llmkit.runtime import catalog
from llmkit.train.launch import free_port
from llmkit.train.run import RunDirectory
from llmkit.train.verification import children
from llmkit.train.verification.certificate import Certificate, verify
from llmkit.train.verification.comparison import Recorded, Tolerance, compare
from llmkit.train.verification.witness import Witness, rows

PLUGIN = """
    import numpy as np
    import torch
    from pydantic import Field
    from llmkit import Component, FeedForward, Kind, Optimizer, Params, hookimpl

    class Nothing(Params):
        pass

    class Rate(Params):
        lr: float = Field(0.01, description="learning rate")

    class Dropout(FeedForward):
        def __init__(self, params, site):
            super().__init__()
            self.linear = torch.nn.Linear(site.width, site.width)

        def forward(self, x):
            return torch.nn.functional.dropout(self.linear(x), 0.2, self.training)

    class Noisy(Dropout):
        def forward(self, x):
            return super().forward(x) * (1 + 1e-3 * np.random.default_rng(0).random() + 0 * np.random.random())

    class Warming(torch.optim.SGD):
        # How often it has stepped is no state that a checkpoint knows of.
        steps = 0
        def step(self, closure=None):
            for group in self.param_groups:
                group["lr"] = group["initial_lr"] * min(self.steps / 4, 1)
            self.steps += 1
            super().step(closure)

    class Forgetful(Optimizer):
        def build(self, parameters):
            lr = self.params.lr
            return Warming([{"params": [one.parameter for one in parameters], "lr": lr, "initial_lr": lr}], lr=lr)

    @hookimpl
    def llmkit_components():
        return [
            Component(Kind.ffn, "zoo.dropout", Nothing, "zoo_resume:Dropout", "drops"),
            Component(Kind.ffn, "zoo.noisy", Nothing, "zoo_resume:Noisy", "draws from numpy"),
            Component(Kind.optimizer, "zoo.forgetful", Rate, "zoo_resume:Forgetful", "forgets"),
        ]
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Iterator[None]:
    """A distribution with components of its own, installed for as long as these tests run, and for the processes that they start."""
    place = tmp_path_factory.mktemp("zoo")
    (place / "zoo_resume.py").write_text(textwrap.dedent(PLUGIN))
    info = place / "zoo_resume-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-resume\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llmkit]\nzoo = zoo_resume\n")
    sys.path.insert(0, str(place))
    catalog.cache_clear()
    yield
    sys.path.remove(str(place))
    sys.modules.pop("zoo_resume", None)
    catalog.cache_clear()


def document(place: Path, **train: Any) -> dict[str, Any]:
    """Eight steps of a small model that drops."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "text.txt").write_text("\n\n".join(f"{number} and {number * 7} and {number * number}" for number in range(80)))
    return {
        "name": "small",
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 2,
            "max_seq_len": 16,
            "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": "zoo.dropout"},
        },
        "data": {
            "source": {"type": "text", "paths": [str(place / "text.txt")], "split": "paragraph"},
            "validation": 0.2,
            "cache": str(place / "cache"),
        },
        "train": {"steps": 8, "batch_size": 4, "precision": "fp32", "checkpoint_every": 2, "keep_checkpoints": None, "eval_every": 3}
        | train,
    }


def silent(*told: Any) -> None:
    """Nobody looks."""


@pytest.fixture(scope="module")
def verified(zoo, tmp_path_factory) -> tuple[Certificate, Path]:
    place = tmp_path_factory.mktemp("verified")
    return verify(llmkit.load_spec(document(place)), place / "out", every=3, say=silent, progress=silent), place / "out"


def test_a_run_killed_at_every_third_step_and_resumed_leaves_what_the_undisturbed_one_leaves(verified):
    certificate, out = verified
    (case,) = certificate.cases
    assert case.verdict == "identical"
    assert [kill.after_step for kill in case.resumed.kills] == [3, 6]
    assert all(kill.resumed_from < kill.after_step for kill in case.resumed.kills)
    counts = {one.what: one.count for one in case.compared}
    assert counts["data order and tokens"] == 8 * 4
    assert counts["losses"] == counts["gradient norms"] == 8 and counts["evaluations"] == 4
    assert counts["weights"] == 4 * len(load_file(out / "straight-1" / "checkpoints" / "step-00000008" / "model.safetensors"))


def test_every_step_draws_otherwise_and_the_same_whatever_was_drawn_before(verified):
    _, out = verified
    states = {}
    for file in sorted(out.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert states.setdefault(row["step"], row["random"]) == row["random"]
    assert len(set(states.values())) == 8


def test_the_certificate_tells_what_was_compared_and_where_it_is_true(verified):
    written = json.loads((verified[1] / "certificate.json").read_text())
    assert written["verdict"] == "identical" and written["killed_every"] == 3 and written["steps"] == 8
    assert {"llmkit", "python", "packages", "hardware", "components"} <= set(written)
    (case,) = written["cases"]
    assert all(one["equal"] and len(one["straight"]) == 64 for one in case["compared"])
    straight, resumed = case["tensors"]["straight"], case["tensors"]["resumed"]
    assert straight == resumed and "embedding.weight" in straight["model.safetensors"]


def recorded(out: Path, name: str) -> Recorded:
    return Recorded(RunDirectory(out / name), [[file] for file in sorted(out.glob(f"{name}.session-*"))])


def tampered(out: Path, tmp_path: Path) -> tuple[Recorded, Recorded]:
    """A copy of the runs, whose second one is to be tampered with."""
    shutil.copytree(out, tmp_path / "copy")
    return recorded(tmp_path / "copy", "straight-1"), recorded(tmp_path / "copy", "resumed-1")


def test_one_bit_of_one_weight_is_found_with_its_name_its_step_and_its_size(verified, tmp_path):
    straight, resumed = tampered(verified[1], tmp_path)
    file = resumed.directory.checkpoints / "step-00000004" / "model.safetensors"
    tensors = load_file(file)
    tensors["blocks.1.ffn.linear.weight"].view(torch.int32)[3, 5] ^= 1
    save_file(tensors, file)
    (found,) = [one for one in compare(straight, resumed) if not one.equal]
    assert found.what == "weights" and not found.holds
    assert (found.first.step, found.first.name) == (4, "blocks.1.ffn.linear.weight")
    assert 0 < found.first.largest < 1e-7
    assert all(one.holds for one in compare(straight, resumed, Tolerance(1e-5, 1e-5, 1e-5)))


def test_sequences_in_another_order_are_found_within_any_tolerance(verified, tmp_path):
    straight, resumed = tampered(verified[1], tmp_path)
    (last,) = resumed.sessions[-1]
    lines = [json.loads(line) for line in last.read_text().splitlines()]
    lines[1]["rows"].reverse()
    last.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = [one for one in compare(straight, resumed, Tolerance(1.0, 1.0, 1.0)) if not one.holds]
    assert found.what == "data order and tokens" and found.first.step == lines[1]["step"]


def test_a_row_that_is_told_twice_or_a_checkpoint_that_is_missing_is_found(verified, tmp_path):
    straight, resumed = tampered(verified[1], tmp_path)
    ledger = resumed.directory.root / "ledger.jsonl"
    ledger.write_text(ledger.read_text() + ledger.read_text().splitlines()[-1] + "\n")
    shutil.rmtree(resumed.directory.checkpoints / "step-00000002")
    assert {"ledger", "weights", "optimizer state"} <= {one.what for one in compare(straight, resumed) if not one.holds}


def test_state_that_no_checkpoint_has_is_found_and_named_and_exits_with_1(zoo, tmp_path):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(document(tmp_path, optimizer={"type": "zoo.forgetful"}, steps=6)))
    command = ["verify-resume", str(tmp_path / "spec.yaml"), "--every", "5", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    assert "killed and resumed on 1 process: different" in done.output
    # The checkpoint that it went on from is the same; in the one after it the first weight, by name, is another.
    assert re.search(r"weights: first blocks\.0\.attention\S+ after step [46], by \S+ at most", done.output), done.output


def test_a_generator_that_no_step_seeds_is_named(zoo, tmp_path):
    spec = document(tmp_path, steps=2, checkpoint_every=1)
    spec["model"]["block"]["ffn"] = "zoo.noisy"
    certificate = verify(llmkit.load_spec(spec), tmp_path / "out", every=1, say=silent, progress=silent)
    told = [json.loads(line) for file in (tmp_path / "out").glob("straight-1.*") for line in file.read_text().splitlines()]
    assert [line["history"] for line in told] == [["numpy"], ["numpy"]]
    assert certificate.holds


@pytest.mark.slow
def test_two_ranks_are_exact_and_a_run_that_one_rank_began_goes_on_within_rounding(zoo, tmp_path):
    spec = llmkit.load_spec(document(tmp_path, micro_batch_size=1), overrides=["model.block.ffn=swiglu"])
    certificate = verify(spec, tmp_path / "out", every=3, processes=2, say=silent, progress=silent)
    assert [case.verdict for case in certificate.cases] == ["identical", "within tolerance"]
    order = next(one for one in certificate.cases[1].compared if one.what == "data order and tokens")
    assert order.equal and order.count == 8 * 4
    assert max(one.relative for one in certificate.cases[1].compared) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["tp", "pp"])
def test_ranks_that_share_the_model_are_exact_too_and_take_over_from_one_process_within_rounding(zoo, tmp_path, parallel):
    overrides = ["model.block.ffn=swiglu", f"parallel.{parallel}=2"]
    spec = llmkit.load_spec(document(tmp_path, micro_batch_size=1, steps=6), overrides=overrides)
    certificate = verify(spec, tmp_path / "out", every=4, processes=2, say=silent, progress=silent)
    assert [case.verdict for case in certificate.cases] == ["identical", "within tolerance"]
    for case in certificate.cases:
        order = next(one for one in case.compared if one.what == "data order and tokens")
        assert order.equal and order.count == 6 * 4
    assert max(one.relative for one in certificate.cases[1].compared) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "parallel.tp=2"], "parallel asks for 2 ranks (tp 2), and there are 1"),
        (["--every", "8"], "a run of 8 steps is over before it is killed after step 8"),
        (["--processes", "3"], "batch_size 4 cannot be shared evenly by 3 processes"),
        (["--out", "."], "is not empty; choose another directory with --out"),
    ],
)
def test_the_users_mistakes_are_told_before_anything_runs(zoo, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(yaml.safe_dump(document(tmp_path)))
    done = CliRunner().invoke(app, ["verify-resume", "spec.yaml", *arguments])
    assert isinstance(done.exception, UserError) and words in str(done.exception)
    assert not Path("runs").exists()


def test_a_sequences_digest_is_its_own_whatever_it_is_computed_with(tmp_path):
    ids = torch.arange(12).view(3, 4)
    batch = Batch(ids, ids + 1, weights=torch.rand(3, 4), item_ids=torch.tensor([5, 6, 7]), extra={"reward": torch.rand(3)})
    part = Batch(*(value[1:] if isinstance(value, torch.Tensor) else value for value in batch))._replace(
        extra={"reward": batch.extra["reward"][1:]}
    )
    assert rows(part) == rows(batch)[1:]
    assert len({*rows(batch), *rows(batch._replace(targets=ids))}) == 6
    witness = Witness(tmp_path / "told.jsonl")
    witness(1, [batch])
    random.random()
    witness(2, [part])
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [line["history"] for line in told] == [[], ["python"]]


def rank_and_world() -> tuple[str, str]:
    return os.environ["RANK"], os.environ["WORLD_SIZE"]


def second_rank_fails() -> None:
    if os.environ["RANK"] == "1":
        raise UserError("the second rank has no text")
    signal.pause()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_of_a_task_answer_fail_together_and_can_be_killed():
    assert children.run(rank_and_world, ranks=2) == children.Ended(0, ("0", "2"))
    with pytest.raises(UserError, match="the second rank has no text"):
        children.run(second_rank_fails, ranks=2)
    assert children.run(die).code == -signal.SIGKILL
    with pytest.raises(children.Failed, match="TypeError"):
        children.run(free_port, 1)
