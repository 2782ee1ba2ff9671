"""GPUs are given out without one being there."""

import psutil
import pytest
from small_study import cell

from llmkit.ablate.devices import devices_each, devices_named, visible_devices
from llmkit.ablate.workers import Workers, default_workers
from llmkit.core.errors import UserError
from llmkit.runtime import catalog


def test_each_worker_has_a_gpu_of_its_own_as_long_as_they_last_and_shares_one_then():
    assert devices_each(["0", "1", "2"], 3) == [("0",), ("1",), ("2",)]
    assert devices_each(["4", "GPU-7f"], 3) == [("4",), ("GPU-7f",), ("4",)]
    assert devices_each([], 2) == [(), ()]


def test_a_cell_of_several_processes_has_a_gpu_for_each_and_never_one_for_two():
    assert devices_each(["0", "1", "2", "3", "4"], 3, processes=2) == [("0", "1"), ("2", "3"), ("0", "1")]
    with pytest.raises(UserError, match="a cell takes 4 processes, and there are GPUs for 2 of them"):
        devices_each(["0", "1"], 1, processes=4)


def test_gpus_that_the_environment_hides_are_nobodys():
    assert devices_named(None, 2) == ("0", "1")
    assert devices_named("3, 1", 8) == ("3", "1")
    assert devices_named("2,-1,3", 8) == ("2",) and devices_named("", 8) == ()


def test_there_are_as_many_workers_as_gpus_and_cells_of_several_processes_take_several(monkeypatch):
    monkeypatch.setattr("llmkit.ablate.workers.visible_devices", lambda: ("0", "1", "2", "3"))
    assert [default_workers(30, processes) for processes in (1, 2, 3, 8)] == [4, 2, 1, 1]
    assert default_workers(2) == 2


def test_a_machine_without_a_gpu_names_none(monkeypatch):
    monkeypatch.setattr("llmkit.ablate.devices.device", lambda: "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_devices() == ()


def test_a_worker_sees_its_own_gpus_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("llmkit.ablate.workers.visible_devices", lambda: ("5", "3"))
    with Workers(2, tmp_path, catalog().fingerprint) as workers:
        before = set(psutil.Process().children())
        for seed in range(2):
            workers.submit((cell(tmp_path, seed=seed),))
        started = set(psutil.Process().children()) - before
        assert sorted(process.environ()["CUDA_VISIBLE_DEVICES"] for process in started) == ["3", "5"]
