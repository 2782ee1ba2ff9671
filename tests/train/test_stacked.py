"""Seeds that are trained together as one stacked model are the runs that each would have been alone."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.core.errors import UserError
from llmkit.train.loop import train
from llmkit.train.stacked import can_stack, engine, run, train_together

SEEDS = (3, 4, 5)


def seeded(document: dict[str, Any], seeds: tuple[int, ...] = SEEDS, *overrides: str) -> list[Any]:
    return [llmkit.load_spec(document, overrides=[f"train.seed={seed}", *overrides]) for seed in seeds]


def together(document: dict[str, Any], root: Path, *overrides: str) -> list[dict[str, Any]]:
    return train_together(seeded(document, SEEDS, *overrides), [root / f"stacked-{seed}" for seed in SEEDS])


def alone(document: dict[str, Any], root: Path, *overrides: str) -> list[dict[str, Any]]:
    return [train(spec, out=root / f"alone-{seed}") for seed, spec in zip(SEEDS, seeded(document, SEEDS, *overrides), strict=True)]


def rows(run: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def column(run: Path, key: str) -> list[float]:
    return [row[key] for row in rows(run) if key in row]


ARCHITECTURES = {
    "llama": {
        "position": "rope",
        "block": {
            "attention": {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, "qk_norm": "rmsnorm"},
            "ffn": "swiglu",
            "norm": "rmsnorm",
            "layout": "pre",
        },
        "tie_embeddings": True,
    },
    "gpt": {
        "position": "learned",
        "block": {"attention": {"type": "mha", "n_heads": 4, "bias": True}, "ffn": "mlp", "norm": "layernorm", "layout": "post"},
        "tie_embeddings": False,
    },
    "alibi": {
        "position": "alibi",
        "block": {"attention": {"type": "mqa", "n_heads": 4, "window": 9}, "ffn": "geglu", "norm": "rmsnorm", "layout": "parallel"},
        "logit_softcap": 20.0,
    },
    "t5": {
        "position": "t5",
        "block": {"attention": {"type": "mha", "n_heads": 4, "sinks": True, "gate": "head"}, "ffn": "mlp", "norm": "none", "layout": "pre"},
    },
}
OPTIMIZERS = {"llama": "adamw", "gpt": "sgd", "alibi": "lion", "t5": "schedule_free"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stacked_runs_are_the_separate_ones_within_rounding(tiny, tmp_path, name):
    tiny["model"] |= ARCHITECTURES[name]
    tiny["train"] |= {"steps": 20, "optimizer": {"type": OPTIMIZERS[name]}, "checkpoint_every": 10, "eval_every": 10}
    ours, theirs = together(tiny, tmp_path), alone(tiny, tmp_path)
    for seed, mine, other in zip(SEEDS, ours, theirs, strict=True):
        stacked, separate = tmp_path / f"stacked-{seed}", tmp_path / f"alone-{seed}"
        assert mine.keys() == other.keys()
        for key in ("loss", "val_loss", "learning_rate"):
            assert column(stacked, key) == pytest.approx(column(separate, key), abs=1e-5)
        assert column(stacked, "grad_norm") == pytest.approx(column(separate, "grad_norm"), rel=1e-4)
        assert mine["val_bits_per_byte"] == pytest.approx(other["val_bits_per_byte"], abs=1e-5)
        assert [row["items"] for row in rows(stacked, "ledger")] == [row["items"] for row in rows(separate, "ledger")]
        for file in ("model", "optimizer"):
            saved, wanted = (load_file(run / "checkpoints" / "step-00000020" / f"{file}.safetensors") for run in (stacked, separate))
            assert saved.keys() == wanted.keys()
            for key, tensor in wanted.items():
                torch.testing.assert_close(saved[key], tensor, atol=2e-5, rtol=1e-3)


def test_a_seed_does_not_see_the_others(tiny, tmp_path):
    two = train_together(seeded(tiny, (3, 4)), [tmp_path / "a", tmp_path / "b"])
    other = train_together(seeded(tiny, (3, 7)), [tmp_path / "c", tmp_path / "d"])
    assert two[0]["val_loss"] == other[0]["val_loss"] != other[1]["val_loss"]
    ours, theirs = (load_file(tmp_path / name / "checkpoints" / "step-00000010" / "model.safetensors") for name in "ac")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_packed_documents_and_micro_batches_are_as_in_separate_runs(tiny, tmp_path):
    tiny["data"]["mask_documents"] = True
    tiny["train"]["micro_batch_size"] = 2
    for mine, other in zip(together(tiny, tmp_path), alone(tiny, tmp_path), strict=True):
        assert mine["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
        assert mine["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)


def test_a_seed_that_diverges_ends_and_the_others_go_on(tiny, tmp_path, monkeypatch):
    specs, outs = seeded(tiny), [tmp_path / f"run-{seed}" for seed in SEEDS]
    whole = together(tiny, tmp_path)
    update = engine.StackedEngine.update

    def poison(self: Any) -> None:
        update(self)
        with torch.no_grad():
            self.stack.parameters[0].parameter[1].fill_(math.nan)

    monkeypatch.setattr(engine.StackedEngine, "update", poison)
    first, second, third = train_together(specs, outs)
    assert "at step 2 the loss is nan" in second["diverged"] and second["val_loss"] is None and second["step"] == 1
    assert not (outs[1] / "result.json").exists() and not list((outs[1] / "checkpoints").glob("step-*"))
    assert (first["val_loss"], third["val_loss"]) == (whole[0]["val_loss"], whole[2]["val_loss"])


def test_a_stacked_run_loads_goes_on_and_is_not_run_again(tiny, tmp_path):
    results = together(tiny, tmp_path)
    outs = [tmp_path / f"stacked-{seed}" for seed in SEEDS]
    assert train_together(seeded(tiny), outs) == results
    assert train(seeded(tiny)[0], out=outs[0]) == results[0]
    loaded = llmkit.load_run(outs[0])
    assert loaded.step == 10 and loaded.tokenizer.decode(loaded.tokenizer.encode("text")) == "text"
    longer = copy.deepcopy(tiny)
    longer["train"]["steps"] = 14
    went_on = train(seeded(longer)[0], out=outs[0])
    assert went_on["resumed_from"] == 10 and went_on["step"] == 14
    assert [row["step"] for row in rows(outs[0], "ledger")] == list(range(1, 15))


def test_what_was_killed_on_the_way_begins_anew(tiny, tmp_path, monkeypatch):
    step = run.Together._take_a_step

    def dies(self: Any) -> None:
        if self.step == 5:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(run.Together, "_take_a_step", dies)
    with pytest.raises(KeyboardInterrupt):
        together(tiny, tmp_path)
    assert rows(tmp_path / "stacked-3")[-1]["step"] == 5
    monkeypatch.undo()
    again, fresh = together(tiny, tmp_path), together(tiny, tmp_path / "fresh")
    assert [one["val_loss"] for one in again] == [one["val_loss"] for one in fresh]
    assert [row["step"] for row in rows(tmp_path / "stacked-3", "ledger")] == list(range(1, 11))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("train.precision=bf16", "stacked models compute in fp32"),
        ("train.optimizer=adafactor", "'adafactor' does not offer stackable"),
        ("train.spikes.policy=skip", "leaves steps out"),
        ("train.sample_every=5", "train.sample_every"),
        ("train.compile=true", "train.compile is True"),
        ("model.block.ffn={type: moe, n_experts: 4, n_active: 2}", "after_step"),
    ],
)
def test_what_cannot_be_stacked_is_told_with_its_reason(tiny, tmp_path, override, reason):
    spec = llmkit.load_spec(tiny, overrides=[override])
    assert reason in str(can_stack(spec))
    with pytest.raises(UserError, match="train its runs one by one"):
        train_together([spec], [tmp_path / "run"])
    assert not (tmp_path / "run").exists()


def test_what_stacks_has_no_reason_and_specs_may_differ_in_seeds_alone(tiny, tmp_path):
    assert can_stack(llmkit.load_spec(tiny)) is None
    specs = [llmkit.load_spec(tiny), llmkit.load_spec(tiny, overrides=["train.optimizer.lr=0.1"])]
    with pytest.raises(UserError, match=r"differ in their seeds alone; train\.optimizer\.lr is 0\.003"):
        train_together(specs, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match="each its own"):
        train_together(specs[:1] * 2, [tmp_path / "a", tmp_path / "a"])
