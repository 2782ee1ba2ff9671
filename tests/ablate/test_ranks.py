"""Cells that several ranks train: the launcher of `llmkit train --processes` in a worker."""

import json

import pytest
from small_study import cell, small_spec, small_study

from llmkit.ablate.cells import ENDING, read_json
from llmkit.ablate.ranks import check_ranks_of, ranks_of, train_on_ranks
from llmkit.ablate.run import run_study
from llmkit.ablate.study import load_study
from llmkit.ablate.worker import run_cells
from llmkit.core.errors import UserError
from llmkit.runtime import catalog, load_spec


def test_a_cell_takes_as_many_ranks_as_its_spec_asks_for_unless_it_is_told(tmp_path):
    plain = load_spec(small_spec(tmp_path))
    cut = load_spec(small_spec(tmp_path), ["parallel.tp=2"])
    assert [ranks_of(plain, None), ranks_of(plain, 4), ranks_of(cut, None)] == [1, 4, 2]
    assert check_ranks_of({"plain": plain, "cut": cut}, None) == 2
    with pytest.raises(UserError, match=r"^cut: parallel asks for 2 ranks \(tp 2\), and there are 4"):
        check_ranks_of({"plain": plain, "cut": cut}, 4)


def test_seeds_in_one_stack_and_cells_of_several_ranks_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="--together 2 trains seeds in one process, and a cell takes 2 here"):
        run_study(load_study(small_study(tmp_path)), tmp_path / "study", processes=2, together=2)


@pytest.mark.slow
def test_a_study_on_two_processes_a_cell_says_what_one_says(tmp_path):
    study = load_study(small_study(tmp_path, seeds=1))
    alone = run_study(study, tmp_path / "alone", workers=1)
    shared = run_study(study, tmp_path / "shared", workers=1, processes=2)
    for one, two in zip(alone.arms, shared.arms, strict=True):
        (a,), (b,) = one.cells, two.cells
        assert b.ending == "finished" and b.key == a.key and b.value == pytest.approx(a.value, abs=1e-5)
        assert (b.peak_memory_bytes or 0) >= 0 and b.tokens == a.tokens
        manifest = json.loads((tmp_path / "shared" / b.directory / "manifest.json").read_text())
        assert [session["processes"] for session in manifest["sessions"]] == [2]


@pytest.mark.slow
def test_ranks_that_diverge_are_a_result_of_the_cell_and_not_of_its_processes(tmp_path):
    one = cell(tmp_path, optimizer={"type": "sgd", "lr": 1e30}, grad_clip=None, schedule="constant")
    assert run_cells([one], tmp_path, catalog(), [].append, processes=2)
    told = read_json(tmp_path / one.directory / ENDING)
    assert told["ending"] == "diverged" and "lower train.optimizer.lr" in told["reason"]


def test_ranks_that_break_off_are_tried_once_more_and_are_a_crash_then(tmp_path, monkeypatch):
    (tmp_path / "cell").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "filelock.py").write_text("raise ImportError('no locks today')")
    told: list[dict] = []
    with pytest.raises(RuntimeError, match=r"a rank ended with exit code 1 \(on its ranks, twice\)"):
        train_on_ranks(load_spec(small_spec(tmp_path)), tmp_path / "cell", 2, told.append)
    assert len(told) == 1 and "tried once more" in told[0]["text"]
