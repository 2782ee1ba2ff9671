"""Which checkpoints stay: by the rule alone, and in a run."""

import json

import pytest

import llmkit
from llmkit.train.checkpoint import listed
from llmkit.train.keep import KeepRule
from llmkit.train.loop import train


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (KeepRule(), {3, 6, 9, 12, 14}),
        (KeepRule(last=2), {12, 14}),
        (KeepRule(last=9), {3, 6, 9, 12, 14}),
        (KeepRule(last=1, every=6), {6, 12, 14}),
        (KeepRule(last=1, best=True), {9, 14}),
        (KeepRule(last=1, every=6, best=True), {6, 9, 12, 14}),
    ],
    ids=str,
)
def test_what_any_part_of_the_rule_keeps_stays(rule, kept):
    assert rule.kept([3, 6, 9, 12, 14], {4: 0.5, 6: 2.0, 9: 1.0, 12: 1.5}) == kept


def test_without_a_loss_nothing_is_best_and_the_later_of_two_that_are_equal_is():
    assert KeepRule(last=1, best=True).kept([3, 6], {}) == {6}
    assert KeepRule(last=1, best=True).kept([3, 6, 9], {3: 1.0, 6: 1.0}) == {6, 9}


def test_a_run_that_learns_and_then_forgets_keeps_its_best_checkpoint_also_after_it_went_on(tiny, tmp_path):
    tiny["train"] |= {
        "steps": 12, "checkpoint_every": 2, "eval_every": 2, "keep_checkpoints": 1, "keep_best": True, "keep_every": 4,
        "optimizer": {"type": "adamw", "lr": 0.3}, "schedule": "constant",
    }  # fmt: skip
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    losses = validations(tmp_path / "run")
    best = min(losses, key=losses.__getitem__)
    assert best < 12, losses
    assert {one.step for one in listed(tmp_path / "run" / "checkpoints")} == {best, 4, 8, 12}
    tiny["train"]["steps"] = 14
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    losses = {step: loss for step, loss in validations(tmp_path / "run").items() if step < 14}
    assert {one.step for one in listed(tmp_path / "run" / "checkpoints")} == {min(losses, key=losses.__getitem__), 4, 8, 12, 14}


def validations(run) -> dict[int, float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}
