"""Runs side by side: what is computed from their files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from llmkit.cli.compare import bars
from llmkit.cli.curves import ticks
from llmkit.core.errors import UserError
from llmkit.core.filled import filled, to_yaml
from llmkit.runtime import load_spec
from llmkit.train.compare import TRAINING_POINTS, Point, _thinned, read_run, spec_differences

SPEC = {"tokenizer": "bytes", "model": {"d_model": 64, "n_layers": 2, "max_seq_len": 32}, "train": {"steps": 10}}


def test_differences_of_three_specs_name_every_address_once_with_a_value_for_each() -> None:
    specs = [load_spec(SPEC, overrides) for overrides in ((), ("model.n_layers=3",), ("train.seed=5", "model.n_layers=2"))]
    assert {one.address: one.values for one in spec_differences(specs)} == {"model.n_layers": [2, 3, 2], "train.seed": [0, 0, 5]}
    assert spec_differences([specs[0], specs[0]]) == []


def test_an_address_that_only_some_specs_have_is_none_in_the_others() -> None:
    specs = [load_spec(SPEC, [f"model.block.norm={norm}"]) for norm in ("rmsnorm", "none", "rmsnorm")]
    values = {one.address: one.values for one in spec_differences(specs)}
    assert values["model.block.norm.type"] == ["rmsnorm", "none", "rmsnorm"]
    assert values["model.block.norm.eps"][1] is None and values["model.block.norm.eps"][0] == values["model.block.norm.eps"][2]


@pytest.mark.parametrize("length", [0, 1, TRAINING_POINTS, TRAINING_POINTS + 1, 1234])
def test_a_thinned_curve_keeps_its_mean_and_its_end(length: int) -> None:
    curve = [Point(10 * step, math.sin(step)) for step in range(1, length + 1)]
    thin = _thinned(curve)
    assert len(thin) == min(length, TRAINING_POINTS)
    assert [point.tokens for point in thin[-1:]] == [point.tokens for point in curve[-1:]]
    if length == 1234:
        weights = np.diff([0, *(point.tokens for point in thin)])
        assert np.average([point.value for point in thin], weights=weights) == pytest.approx(np.mean([point.value for point in curve]))


def test_bars_fall_with_the_loss_and_leave_blank_what_was_not_reached() -> None:
    curve = [Point(step, 8.0 - step) for step in range(1, 8)]
    assert bars(curve, furthest=7, low=1.0, high=8.0, width=7) == "▇▆▅▄▃▂▁"
    assert bars(curve, furthest=14, low=1.0, high=8.0, width=14) == bars(curve, furthest=7, low=1.0, high=8.0, width=7)
    assert bars([], furthest=10, low=0.0, high=0.0) == "" and bars([Point(1, 2.0)], furthest=1, low=2.0, high=2.0, width=1) == "▁"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 768), (1.23, 1.31), (2.5, 10.8), (0, 3e9), (-1e-3, 2e-3)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 11 and all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    assert np.allclose(np.diff(found), found[1] - found[0])


@pytest.mark.parametrize(
    ("file", "text"), [("manifest.json", "[]"), ("result.json", "3"), ("metrics.jsonl", "3\n"), ("metrics.jsonl", '{"loss": 1}\n')]
)
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "spec.yaml").write_text(to_yaml(filled(load_spec(SPEC))))
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=f"cannot read '.*{file}': .* is no object"):
        read_run(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("manifest.json", '{"cost": 3}', r"cost: .*, got 3"),
        ("manifest.json", '{"cost": {"flops_per_token": {"forward": 1.0}}}', r"cost\.flops_per_token\.training: field required"),
        ("manifest.json", '{"fingerprints": {"tokenizer": [1]}}', r"fingerprints\.tokenizer: input should be a valid string, got \[1\]"),
        ("manifest.json", '{"components": [3]}', r"components\.0: .*, got 3"),
        ("result.json", '{"step": "x", "tokens": 3}', r"step: input should be a valid integer, got 'x'"),
        ("result.json", '{"step": 1, "tokens": 3, "val_loss": Infinity}', r"val_loss: input should be a finite number, got inf"),
        ("metrics.jsonl", '{"step": 1, "tokens": 3, "seconds": {}}\n', r"seconds: input should be a valid number, got \{\}"),
    ],
)
def test_a_value_that_is_something_else_is_named(tmp_path: Path, file: str, text: str, reason: str) -> None:
    (tmp_path / "spec.yaml").write_text(to_yaml(filled(load_spec(SPEC))))
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=f"cannot read '.*{file}': {reason}"):
        read_run(str(tmp_path))
