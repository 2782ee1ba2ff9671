"""A run belongs to one process at a time, and to nobody once that has ended, however it did."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from listening import Listening

import llmkit
from llmkit.core.errors import UserError
from llmkit.train.lock import LOCK, alone
from llmkit.train.loop import train
from llmkit.train.run import write_initialised

HOLDING = """
import sys, time
from pathlib import Path
from llmkit.train.lock import alone
with alone(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def command(tiny: dict[str, Any], tmp_path: Path, *more: str) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    return [sys.executable, "-m", "llmkit", "train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), *more]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_that_another_process_trains_is_refused_naming_the_process_and_what_to_do(tiny, tmp_path, processes):
    with held(tmp_path / "run") as other:
        done = subprocess.run(command(tiny, tmp_path, "--processes", processes), capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert f"process {other.pid} on {socket.gethostname()}" in said and f"kill {other.pid}" in said and "--out" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_a_lock_that_a_killed_process_left_stands_in_nobodys_way_and_is_gone_afterwards(tiny, tmp_path):
    with held(tmp_path / "run") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / "run" / LOCK).exists()
        assert train(llmkit.load_spec(tiny), out=tmp_path / "run", resume="never")["step"] == 10
    assert not (tmp_path / "run" / LOCK).exists()


def test_two_runs_of_one_process_in_different_directories_do_not_meet(tmp_path):
    refused = pytest.raises(UserError, match=f"process {os.getpid()} on")
    with alone(tmp_path / "a", print), alone(tmp_path / "b", print), refused, alone(tmp_path / "a", print):
        pass
    assert not list(tmp_path.iterdir())


def test_who_waits_for_a_process_that_is_ending_gets_the_run(tmp_path):
    with held(tmp_path / "run") as other:
        killed = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.3); os.kill({other.pid}, 9)"])
        with alone(tmp_path / "run", print):
            assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == os.getpid()
        killed.wait()


TAKING_TURNS = """
import os, sys
from pathlib import Path
from llmkit.train import lock
lock.PATIENCE_SECONDS = 30
own = Path(sys.argv[1]) / "own"
for _ in range(40):
    with lock.alone(own.parent, print):
        os.close(os.open(own, os.O_CREAT | os.O_EXCL))
        own.unlink()
"""


def test_many_processes_that_want_a_run_at_once_have_it_one_after_another(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", TAKING_TURNS, str(tmp_path / "run")]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert not (tmp_path / "run" / LOCK).exists()


def test_initial_values_are_not_written_into_a_run_that_another_process_begins(tiny, tmp_path):
    with held(tmp_path / "run"), pytest.raises(UserError, match="another process trains"):
        write_initialised(llmkit.load_spec(tiny), tmp_path / "run")


def test_a_mistake_leaves_no_directory_that_was_made_for_the_lock(tiny, tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        train(llmkit.load_spec(tiny), out=tmp_path / "runs" / "run", resume=str(tmp_path / "none"))
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_in_a_directory_that_cannot_be_written_returns_what_it_recorded(tiny, tmp_path, monkeypatch):
    result = train(llmkit.load_spec(tiny), out=tmp_path / "run")
    opened = os.open

    def refusing(path, flags, *rest, **named):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refusing)
    assert train(llmkit.load_spec(tiny), out=tmp_path / "run") == result


def test_a_file_system_without_locks_is_said_and_nothing_stands_in_the_way(tmp_path, monkeypatch):
    def missing(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    told = Listening()
    with alone(tmp_path / "run", told.say):
        pass
    assert len(told.said) == 1 and "keeps no locks (Function not implemented)" in told.said[0]


def test_who_takes_over_from_another_machines_process_that_did_not_end_by_itself_is_told(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"process": 7, "host": "another", "since": time.strftime("%Y")}))
    told = Listening()
    with alone(tmp_path, told.say):
        pass
    assert len(told.said) == 1 and "process 7 on another" in told.said[0]
