"""Cells: what is the same cell, where it lies, and how its files tell how it ended."""

import json
import os
from pathlib import Path

import pytest
from small_study import cell, small_spec

from llmkit.ablate.cells import ENDING, RESULT, Identities, order, read_cell, seeded, state
from llmkit.ablate.worker import run_cells
from llmkit.core.errors import UserError
from llmkit.runtime import catalog, load_spec


def test_a_cell_is_the_same_cell_whatever_changes_no_number_of_it(tmp_path):
    plain = cell(tmp_path)
    quiet = {"checkpoint_every": 3, "keep_checkpoints": None, "sample_every": 2, "sample_prompts": ["the"], "trackers": ["tensorboard"]}
    assert cell(tmp_path, **quiet).key == plain.key
    spec = small_spec(tmp_path) | {"name": "other", "eval": ["perplexity"]}
    assert Identities(catalog(), "val_loss").key(load_spec(spec)) == plain.key


@pytest.mark.parametrize("train", [{"steps": 7}, {"optimizer": {"type": "adamw", "lr": 1e-3}}, {"eval_every": 3}, {"init_seed": 5}])
def test_whatever_changes_a_number_or_the_curve_makes_another_cell(tmp_path, train):
    assert cell(tmp_path, **train).key != cell(tmp_path).key


def test_a_seed_and_a_revision_of_a_component_make_another_cell(tmp_path):
    assert cell(tmp_path, seed=1).key != cell(tmp_path).key
    spec = load_spec(small_spec(tmp_path))
    norm = spec.model.block.norm
    revised = spec.model.block.model_copy(
        update={"norm": type(norm)(norm.component.__class__(**vars(norm.component) | {"revision": 99}), norm.params)}
    )
    other = spec.model_copy(update={"model": spec.model.model_copy(update={"block": revised})})
    assert Identities(catalog(), "val_loss").key(other) != Identities(catalog(), "val_loss").key(spec)


def test_a_text_that_was_touched_is_the_same_and_one_that_was_changed_makes_another_cell(tmp_path):
    before = cell(tmp_path).key
    text = tmp_path / "text.txt"
    os.utime(text, (1, 1))
    assert cell(tmp_path).key == before
    text.write_text(text.read_text().replace("model", "mould"))
    assert cell(tmp_path).key != before


def test_a_text_that_is_edited_while_the_study_runs_makes_no_cell_of_the_old_one(tmp_path):
    one, text = cell(tmp_path), tmp_path / "text.txt"
    before = text.read_text()
    text.write_text(before.replace("model", "mould"))
    with pytest.raises(UserError, match=r"was changed since the study began \(training_tokens.*\); put it back"):
        run_cells([one], tmp_path, catalog(), [].append)
    assert state(one, tmp_path) is None
    text.write_text(before)
    assert run_cells([one], tmp_path, catalog(), [].append)
    found = state(one, tmp_path)
    assert found is not None and found.ending == "finished"


def test_the_processor_counts_only_where_it_decides_the_precision(tmp_path, monkeypatch):
    keys = {precision: cell(tmp_path, precision=precision).key for precision in ("fp32", "auto")}
    monkeypatch.setattr("llmkit.ablate.cells.hardware", lambda: {"processor": "another"})
    assert cell(tmp_path, precision="fp32").key == keys["fp32"]
    assert cell(tmp_path, precision="auto").key != keys["auto"]


def test_a_cell_lies_below_its_arm_and_names_its_seed(tmp_path):
    found = cell(tmp_path, arm="gqa/rmsnorm", seed=3)
    assert found.directory == Path("cells") / "gqa+rmsnorm" / f"seed-3-{found.key[:8]}"


def test_a_cell_reads_back_as_it_was_written(tmp_path):
    found = cell(tmp_path)
    again = read_cell(json.loads(json.dumps(found.document())), catalog())
    assert again == found and again.spec == found.spec


def test_only_a_long_cell_leaves_checkpoints_on_its_way_and_none_writes_samples(tmp_path):
    assert cell(tmp_path, sample_every=1).spec.train.sample_every is None
    assert cell(tmp_path).spec.train.checkpoint_every is None
    assert cell(tmp_path, steps=5000).spec.train.checkpoint_every == 500
    assert cell(tmp_path, steps=5000, checkpoint_every=7).spec.train.checkpoint_every == 7


def test_cells_come_seed_by_seed_and_each_once(tmp_path):
    identities = Identities(catalog(), "val_loss")
    spec = load_spec(small_spec(tmp_path))
    cells = [identities.cell(arm, seed, seeded(spec, seed)) for arm in ("a", "b") for seed in (4, 1, 4)]
    assert [(one.seed, one.arm) for one in order(cells)] == [(4, "a"), (4, "b"), (1, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("files", "ending", "reason"),
    [
        ({}, None, None),
        ({RESULT: {"step": 3, "val_bits_per_byte": 2.0, "tokens": 192, "tokens_per_second": 1.0}}, None, None),
        ({RESULT: {"step": 6, "val_bits_per_byte": 2.0, "tokens": 384, "tokens_per_second": 1.0}}, "finished", None),
        ({RESULT: {"step": 6, "val_bits_per_byte": float("nan"), "tokens": 384, "tokens_per_second": 1.0}}, "diverged", "no number"),
        ({ENDING: {"ending": "diverged", "reason": "loss is nan"}}, "diverged", "loss is nan"),
        ({ENDING: {"ending": "crashed", "reason": "killed"}}, "crashed", "killed"),
        ({ENDING: {"ending": "finished", "seconds": 1.0}}, None, None),
    ],
)
def test_how_a_cell_ended_is_read_from_its_files_and_half_way_counts_for_nothing(tmp_path, files, ending, reason):
    one = cell(tmp_path)
    (tmp_path / one.directory).mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / one.directory / name).write_text(json.dumps(content))
    found = state(one, tmp_path)
    assert (None if found is None else found.ending) == ending
    assert reason is None or (found is not None and reason in (found.reason or ""))


def test_a_file_that_was_torn_counts_as_none(tmp_path):
    one = cell(tmp_path)
    (tmp_path / one.directory).mkdir(parents=True)
    (tmp_path / one.directory / RESULT).write_text('{"step": 6, "val_bi')
    assert state(one, tmp_path) is None
