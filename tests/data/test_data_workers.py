"""Tasks of a stage in one process and in several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.data import workers
from llmkit.data.workers import Task, WorkerDied, Workers

TASKS = [Task(index, size=10 * index) for index in range(6)]


@dataclass(frozen=True)
class Squares:
    """Writes the square of each task's number, and which process did so; fails, or is killed, at one of them."""

    fails: int | None = None
    dies: int | None = None
    seconds: float = 0.0

    def run(self, directory: Path, task: Task) -> None:
        if task.index == self.fails:
            raise UserError("the fourth file is missing; bring it back")
        if task.index == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        with (directory / f"{task.index}.log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        task.account(directory).write_text(str(task.index**2))


def silent(done: int, total: int) -> None:
    return


def squares(directory: Path) -> list[str]:
    return [task.account(directory).read_text() for task in TASKS]


def processes(directory: Path) -> list[str]:
    return [line for task in TASKS for line in (directory / f"{task.index}.log").read_text().splitlines()]


@pytest.mark.parametrize("count", [None, 1, 2])
def test_every_task_is_done_once_by_any_number_of_processes(tmp_path: Path, count: int | None) -> None:
    told: list[tuple[int, int]] = []
    Workers(count).run(Squares(seconds=0.05 if count == 2 else 0.0), tmp_path, TASKS, lambda done, total: told.append((done, total)))
    assert squares(tmp_path) == [str(number**2) for number in range(6)]
    pids = processes(tmp_path)
    assert len(pids) == 6 and len(set(pids)) == (count or 1) and (str(os.getpid()) in pids) == (count != 2)
    assert told[0] == (0, 6) and told[-1] == (6, 6)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".log"}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        Workers(1).run(Squares(fails=3), tmp_path, TASKS, silent)
    done = [task.index for task in TASKS if task.account(tmp_path).exists()]
    assert done == [0, 1, 2]
    Workers(1).run(Squares(), tmp_path, TASKS, silent)
    assert len(processes(tmp_path)) == 6


def test_an_error_comes_out_of_a_process_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the fourth file is missing; bring it back"):
        Workers(2).run(Squares(fails=3), tmp_path, TASKS, silent)


def test_a_process_that_is_killed_is_told_and_what_is_done_stays(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match=r"was killed.*what is finished is kept"):
        Workers(2).run(Squares(dies=0), tmp_path, TASKS, silent)
    assert TASKS[5].account(tmp_path).exists() and not TASKS[0].account(tmp_path).exists()
    Workers(2).run(Squares(), tmp_path, TASKS, silent)
    assert squares(tmp_path) == [str(number**2) for number in range(6)]


def test_little_work_starts_no_process_and_what_takes_long_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    Workers().run(Squares(), tmp_path, TASKS, silent)
    assert set(processes(tmp_path)) == {str(os.getpid())}
    monkeypatch.setattr(workers, "SHARED_BYTES", 100)
    (tmp_path / "large").mkdir()
    Workers().run(Squares(seconds=0.05), tmp_path / "large", TASKS, silent)
    assert str(os.getpid()) not in processes(tmp_path / "large")
    monkeypatch.setattr(workers, "SHARED_BYTES", 1 << 40)
    monkeypatch.setattr(workers, "SHARED_SECONDS", 0.06)
    (tmp_path / "long").mkdir()
    Workers().run(Squares(seconds=0.05), tmp_path / "long", TASKS, silent)
    assert processes(tmp_path / "long").count(str(os.getpid())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    code = textwrap.dedent(
        f"""
        import signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from llmkit.data.workers import Workers
        from test_data_workers import TASKS, Squares, silent
        def stop(number, frame):
            raise KeyboardInterrupt(f"signal {{number}}")
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            Workers(2).run(Squares(seconds=1.0), Path({str(tmp_path)!r}), TASKS, silent)
        except KeyboardInterrupt as error:
            sys.exit(str(error))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list(tmp_path.glob("*.log"))) >= 2)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert said.strip() == ("" if number == signal.SIGKILL else f"signal {number.value}")
    wait_until(lambda: not alive_in(process.pid))
    assert len(list(tmp_path.glob("*.json"))) < len(TASKS)


def wait_until(holds: object) -> None:
    end = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def alive_in(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
