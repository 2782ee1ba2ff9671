"""What runs cells: one process at a time in each, and an end for each cell whatever happens to it."""

import json
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from safetensors.torch import load_file
from small_study import Listening, cell

from llmkit.ablate.cells import ENDING, state
from llmkit.ablate.dispatch import Dispatch, forget_failures
from llmkit.ablate.worker import lock_of, run_cells
from llmkit.ablate.workers import WorkerFailed, Workers, default_workers, threads_each, units_of
from llmkit.core.errors import UserError
from llmkit.runtime import catalog
from llmkit.train.signals import Interrupted, StopWish

MUTE = [].append


def rows(directory: Path, name: str = "metrics") -> list[dict]:
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


def test_a_finished_cell_has_the_metric_its_curve_and_what_it_took(tmp_path):
    one = cell(tmp_path)
    assert run_cells([one], tmp_path, catalog(), MUTE)
    found = state(one, tmp_path)
    assert found.ending == "finished" and found.tokens == 6 * 4 * 16
    result = json.loads((tmp_path / one.directory / "result.json").read_text())
    assert found.value == result["val_bits_per_byte"]
    assert [tokens for tokens, _ in found.curve] == [128, 256, 384] and found.curve[-1][1] == found.value
    assert found.seconds > 0 and (found.peak_memory_bytes or 0) >= 0


def test_a_cell_that_diverges_is_a_result_with_its_reason_and_is_not_run_again(tmp_path):
    one = cell(tmp_path, optimizer={"type": "sgd", "lr": 1e30}, grad_clip=None, schedule="constant")
    assert run_cells([one], tmp_path, catalog(), MUTE)
    found = state(one, tmp_path)
    assert found.ending == "diverged" and "lower train.optimizer.lr" in found.reason and found.value is None
    before = (tmp_path / one.directory / ENDING).read_bytes()
    assert run_cells([one], tmp_path, catalog(), MUTE)
    assert (tmp_path / one.directory / ENDING).read_bytes() == before


def test_failures_are_forgotten_only_where_that_is_asked_for(tmp_path):
    one, good = cell(tmp_path, seed=1, optimizer={"type": "sgd", "lr": 1e30}, grad_clip=None), cell(tmp_path)
    run_cells([one], tmp_path, catalog(), MUTE)
    run_cells([good], tmp_path, catalog(), MUTE)
    said: list[str] = []
    forget_failures([one, good], tmp_path, said.append)
    assert state(one, tmp_path) is None and state(good, tmp_path).ending == "finished"
    assert len(said) == 1 and "seed 1" in said[0]


def test_a_program_error_is_a_crash_with_its_reason_and_its_traceback(tmp_path):
    one = cell(tmp_path)
    (tmp_path / one.directory).mkdir(parents=True)
    (tmp_path / one.directory / "spec.yaml").write_text("name: torn")
    (tmp_path / one.directory / "manifest.json").write_text("{")
    run_cells([one], tmp_path, catalog(), MUTE)
    told = json.loads((tmp_path / one.directory / ENDING).read_text())
    assert told["ending"] == "crashed" and "JSONDecodeError" in told["reason"] and "Traceback" in told["traceback"]


def test_a_metric_of_an_evaluator_is_computed_once_and_a_run_that_is_there_is_not_trained_again(tmp_path):
    trained, judged = cell(tmp_path), cell(tmp_path, metric="perplexity.bits_per_byte")
    assert trained.directory == judged.directory
    run_cells([trained], tmp_path, catalog(), MUTE)
    assert state(judged, tmp_path) is None
    before = rows(tmp_path / trained.directory)
    run_cells([judged], tmp_path, catalog(), MUTE)
    assert rows(tmp_path / trained.directory) == before
    assert state(judged, tmp_path).value == pytest.approx(state(trained, tmp_path).value, rel=1e-5)


def test_a_metric_that_an_evaluator_does_not_have_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"no metric 'accuracy'; it has .*write metric: perplexity"):
        run_cells([cell(tmp_path, metric="perplexity.accuracy")], tmp_path, catalog(), MUTE)


def test_a_cell_that_another_process_has_is_left_to_it(tmp_path):
    one = cell(tmp_path)
    with lock_of(tmp_path / one.directory):
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(run_cells([one], tmp_path, catalog(), MUTE)))
        other.start()
        other.join()
    assert taken == [False] and state(one, tmp_path) is None
    assert run_cells([one], tmp_path, catalog(), MUTE)


def test_seeds_that_are_trained_together_end_as_those_that_are_trained_alone(tmp_path):
    cells = [cell(tmp_path, seed=seed) for seed in range(3)]
    run_cells(cells, tmp_path / "together", catalog(), MUTE)
    for one in cells:
        run_cells([one], tmp_path / "alone", catalog(), MUTE)
        together, alone = state(one, tmp_path / "together"), state(one, tmp_path / "alone")
        assert together.ending == "finished" and together.value == pytest.approx(alone.value, rel=1e-4)
        assert (
            rows(tmp_path / "together" / one.directory, "ledger")[0]["items"]
            == rows(tmp_path / "alone" / one.directory, "ledger")[0]["items"]
        )
        (names,) = {tuple(load_file(next((tmp_path / way / one.directory).rglob("model.safetensors")))) for way in ("together", "alone")}
        assert "embedding.weight" in names


def test_units_are_seeds_of_one_arm_in_the_order_of_the_cells(tmp_path):
    cells = [cell(tmp_path, arm, seed) for seed in range(3) for arm in ("a", "b")]
    assert [[(one.arm, one.seed) for one in unit] for unit in units_of(cells, 2)] == [
        [("a", 0), ("a", 1)],
        [("b", 0), ("b", 1)],
        [("a", 2)],
        [("b", 2)],
    ]
    assert [len(unit) for unit in units_of(cells)] == [1] * 6


def test_workers_share_the_cores_and_are_no_more_than_cells(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("llmkit.ablate.workers.usable_cores", lambda: 8)
    monkeypatch.setattr("llmkit.ablate.workers.device", lambda: "cpu")
    assert [threads_each(count) for count in (1, 3, 8, 20)] == [8, 2, 1, 1]
    assert default_workers(30) == 8 and default_workers(3) == 3 and default_workers(0) == 1


def workers_of_this_process() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            found += [child] if "llmkit.ablate.worker" in child.cmdline() else []
    return found


def kill_when_it_trains(place: Path, times: int) -> threading.Thread:
    """Kills whatever worker trains in this directory, so many times."""

    def kill() -> None:
        last, left, until = 0.0, times, time.monotonic() + 120
        while left and time.monotonic() < until:
            time.sleep(0.02)
            # A step was written after the last kill: a worker trains again.
            if any(path.stat().st_mtime > last + 0.1 for path in place.rglob("metrics.jsonl")):
                for worker in workers_of_this_process():
                    worker.kill()
                last, left = time.time(), left - 1

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_cell_whose_process_dies_is_tried_once_more_and_then_has_crashed(tmp_path):
    one, listening = cell(tmp_path, steps=100_000, eval_every=None), Listening()
    killer = kill_when_it_trains(tmp_path / "cells", times=2)
    with StopWish() as wish, wish.deferred(), Workers(1, tmp_path, catalog().fingerprint) as workers:
        ended = Dispatch(tmp_path, workers, listening, wish).run([one])
    killer.join()
    found = ended[one.directory]
    assert found.ending == "crashed" and "SIGKILL" in found.reason and "2 times" in found.reason
    assert [text for text in listening.said if "tried once more" in text]
    assert workers_of_this_process() == []


def test_sigterm_lets_cells_write_a_checkpoint_and_says_how_to_go_on(tmp_path):
    one, listening = cell(tmp_path, steps=100_000, eval_every=None, checkpoint_every=50_000), Listening()

    def stop() -> None:
        while not any((tmp_path / "cells").rglob("metrics.jsonl")):
            time.sleep(0.05)
        psutil.Process().send_signal(signal.SIGTERM)

    with StopWish() as wish, wish.deferred(), Workers(1, tmp_path, catalog().fingerprint) as workers:
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(Interrupted, match="0 of 1 cells ended; the same command goes on") as stopped:
            Dispatch(tmp_path, workers, listening, wish).run([one])
    assert stopped.value.exit_code == 143
    assert workers_of_this_process() == [] and list((tmp_path / one.directory / "checkpoints").glob("step-*"))
    with FileLock(lock_of(tmp_path / one.directory).lock_file, timeout=0):
        pass


def test_a_worker_that_cannot_start_is_no_result_of_a_cell(tmp_path, monkeypatch):
    one = cell(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "filelock.py").write_text("raise ImportError('no locks today')")
    refused = pytest.raises(WorkerFailed, match="no locks today")
    with StopWish() as wish, wish.deferred(), Workers(1, tmp_path, catalog().fingerprint) as workers, refused:
        Dispatch(tmp_path, workers, Listening(), wish).run([one])
    assert not (tmp_path / one.directory).exists()


def test_the_users_mistake_ends_the_study_names_the_cell_and_is_no_result(tmp_path):
    one, refused = cell(tmp_path), pytest.raises(UserError, match="rms seed 0: workers find other components")
    with StopWish() as wish, wish.deferred(), Workers(1, tmp_path, "another catalog") as workers, refused:
        Dispatch(tmp_path, workers, Listening(), wish).run([one])
    assert not (tmp_path / one.directory).exists()
