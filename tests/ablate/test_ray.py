"""Studies on a Ray of this machine: the same cells, the same files, the same numbers, whoever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from small_study import Listening, cell, small_study, write_study

from llmkit.ablate.cells import state
from llmkit.ablate.dispatch import Dispatch
from llmkit.ablate.ray_cells import Machine, RayCells, Share, share
from llmkit.ablate.run import run_study
from llmkit.ablate.study import load_study
from llmkit.ablate.worker import lock_of
from llmkit.core.errors import UserError
from llmkit.runtime import catalog
from llmkit.train.launch import free_port
from llmkit.train.signals import Interrupted, StopWish


@pytest.fixture
def local_ray(monkeypatch):
    """A Ray of this machine with two CPUs, whatever it has; nothing of it is left."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("llmkit.ablate.ray_cells.usable_cores", lambda: 2)
    monkeypatch.setenv("RAY_TMPDIR", tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    place = Path(os.environ["RAY_TMPDIR"])
    yield
    assert ray_processes() == [] and list(place.iterdir()) == []
    place.rmdir()


def ray_processes(name: str = "ray") -> list[psutil.Process]:
    """The processes of Ray that this one has begun."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            found += [child] if name in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE else []
        except psutil.Error:
            continue
    return found


def test_cells_share_the_machines_that_have_what_they_need(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    small, large, cards = Machine(4, 0), Machine(16, 0), Machine(32, 8)
    assert share([small, large], cells=100) == Share(20, 1, 1, 0)
    assert share([small, large], cells=2) == Share(2, 4, 4, 0)
    assert share([large, cards, cards], cells=100) == Share(16, 4, 4, 1)
    assert share([large, cards, cards], cells=100, ranks=4) == Share(4, 4, 16, 4)
    assert share([cards], cells=100, workers=2) == Share(2, 16, 16, 1)


def test_a_cell_that_fits_no_machine_is_refused_rather_than_waited_for():
    with pytest.raises(UserError, match="takes 16 processes on one machine, and no machine of the Ray cluster has more than 8 GPUs"):
        share([Machine(64, 8), Machine(64, 8)], cells=4, ranks=16)


def test_without_ray_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['ray'] = None; from llmkit.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "ablate", str(write_study(tmp_path)), "--out", str(tmp_path / "study"), "--on", "ray"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "pip install 'llmkit[ray]'" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "study" / "study.yaml").exists()


def test_a_cluster_that_does_not_answer_is_named_at_once(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"no Ray cluster answers at RAY_ADDRESS .*ray start --head"):
        RayCells(tmp_path, "", 1, [].append).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_study_on_ray_whose_driver_was_killed_ends_to_the_bit_as_on_this_machine(tmp_path, local_ray, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    train = {"steps": 40, "eval_every": 20, "checkpoint_every": 10}
    path, study = write_study(tmp_path, train=train), load_study(small_study(tmp_path, train=train))
    out = tmp_path / "ray"
    command = [sys.executable, "-m", "llmkit", "ablate", str(path), "--out", str(out), "--on", "ray", "--workers", "1"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 120
    while not list(out.rglob("checkpoints/step-*")) and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    here = run_study(study, tmp_path / "here", workers=1)
    listening = Listening()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    there = run_study(study, out, on="ray", workers=2, reporter=listening)
    assert any("which every machine has to see" in text for text in listening.said)
    for one, other in zip(here.arms, there.arms, strict=True):
        assert [(a.key, a.value, a.curve) for a in one.cells] == [(b.key, b.value, b.curve) for b in other.cells]
        assert one.judgement == other.judgement


@pytest.mark.slow
def test_tasks_that_die_are_asked_to_stop_or_do_not_see_the_directory_end_as_workers_do(tmp_path, local_ray):
    with RayCells(tmp_path, catalog().fingerprint, 1, [].append, workers=1) as cluster:
        dies_twice_and_has_crashed(tmp_path, cluster)
        stops_with_a_checkpoint(tmp_path, cluster)
        next(tmp_path.glob(".ray-*")).unlink()
        with StopWish() as wish, wish.deferred(), pytest.raises(UserError, match=r"does not see .* choose a directory with --out"):
            Dispatch(tmp_path, cluster, Listening(), wish).run([cell(tmp_path, seed=3)])


def long_cell(place: Path, seed: int):
    return cell(place, seed=seed, steps=100_000, eval_every=None, checkpoint_every=50_000)


def when_it_trains(directory: Path, act) -> threading.Thread:
    """Acts when a cell has begun to write what its steps found."""

    def wait() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (directory / "metrics.jsonl").exists():
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def dies_twice_and_has_crashed(place: Path, cluster: RayCells) -> None:
    one, listening = long_cell(place, seed=1), Listening()
    directory = place / one.directory

    def kill_twice() -> None:
        for _ in range(2):
            size = (directory / "metrics.jsonl").stat().st_size
            while (directory / "metrics.jsonl").stat().st_size == size:
                time.sleep(0.05)
            for task in ray_processes("ray::run_unit"):
                task.kill()
                task.wait()

    killer = when_it_trains(directory, kill_twice)
    with StopWish() as wish, wish.deferred():
        found = Dispatch(place, cluster, listening, wish).run([one])[one.directory]
    killer.join()
    assert found.ending == "crashed" and "its Ray task died" in found.reason and "2 times" in found.reason
    assert len([text for text in listening.said if "tried once more" in text]) == 1


def stops_with_a_checkpoint(place: Path, cluster: RayCells) -> None:
    one = long_cell(place, seed=2)
    when_it_trains(place / one.directory, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with StopWish() as wish, wish.deferred(), pytest.raises(Interrupted, match="0 of 1 cells ended") as stopped:
        Dispatch(place, cluster, Listening(), wish).run([one])
    assert stopped.value.exit_code == 143 and state(one, place) is None
    assert list((place / one.directory / "checkpoints").glob("step-*"))
    with lock_of(place / one.directory):
        pass
    assert json.loads((place / one.directory / "manifest.json").read_text())["sessions"]
