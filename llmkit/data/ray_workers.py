"""The tasks of a stage on a Ray cluster, through Ray Data: a row of a table each, as on one machine.

Nothing but the task goes to a machine, and nothing comes back but that it is done: shards and their accounts are files in the cache, which
every machine of the cluster has to see at the same path. So a stage may go on here where it was killed there.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.data.workers import Job, Task, Tell, WorkerDied, watched

OBJECT_STORE_BYTES = 80 << 20
"""Of a Ray that is started here; documents do not pass through it."""


@dataclass(frozen=True)
class RayWorkers:
    """The cluster that RAY_ADDRESS names, or a Ray of this machine alone.

    count  how many tasks run at once; as many as the cluster has CPUs for unless given
    """

    count: int | None = None

    def run(self, job: Job, directory: Path, tasks: Sequence[Task], tell: Tell) -> None:
        """Do every task that is not done."""
        left = [task for task in tasks if not task.account(directory).exists()]
        tell(len(tasks) - len(left), len(tasks))
        if not left:
            return
        ray = installed_ray()
        with _connected(ray), watched(directory, tasks, tell):
            self._map(ray, _Piece(pickle.dumps(job), str(directory), metadata.version("llmkit")), left)

    def _map(self, ray: Any, piece: _Piece, tasks: Sequence[Task]) -> None:
        ordered = sorted(tasks, key=lambda task: (-task.size, task.index))
        rows = [{"index": task.index, "size": task.size} for task in ordered]
        table = ray.data.from_items(rows, override_num_blocks=len(rows))
        try:
            told = table.map(piece, num_cpus=1, concurrency=self.count).take_all()
        except ray.exceptions.RayError as error:
            raise WorkerDied(f"a task of the Ray cluster failed: {_last_line(error)}; what is finished is kept") from None
        mistakes = [row["mistake"] for row in told if row["mistake"]]
        if mistakes:
            raise UserError(mistakes[0])


@dataclass(frozen=True)
class _Piece:
    """What is done with a row. The user's mistakes come back as words, for an error there would come with the machinery's own."""

    job: bytes
    directory: str
    version: str

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"mistake": self._refusal() or self._done(Task(int(row["index"]), int(row["size"])))}

    def _done(self, task: Task) -> str:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        job: Job = pickle.loads(self.job)
        try:
            job.run(Path(self.directory), task)
        except UserError as error:
            return str(error)
        return ""

    def _refusal(self) -> str:
        """Why this machine would do something else, or where nobody finds it."""
        here = socket.gethostname()
        if not Path(self.directory).is_dir():
            return f"{here}, a machine of the Ray cluster, does not see {self.directory!r}; set data.cache to a directory that all share"
        found = metadata.version("llmkit")
        if found != self.version:
            return f"{here}, a machine of the Ray cluster, has llmkit {found}, and this one {self.version}; install the same"
        return ""


def installed_ray() -> Any:
    """The package, with its data. `UserError` where it is not installed."""
    try:
        import_module("ray.data")
        return import_module("ray")
    except ImportError as error:
        raise UserError(f"--on ray needs Ray, which cannot be imported ({error}); pip install 'llmkit[ray]', or leave --on out") from None


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Connected to the cluster, for as long as it was not already."""
    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {} if address != "local" else {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    with _handlers_kept():
        try:
            ray.init(address=address, **own, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS {address!r}: {error}; start one (`ray start --head`), or unset it for a Ray "
                "of this machine alone"
            ) from None
        ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray's start has SIGTERM end the process in its own way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_line(error: Exception) -> str:
    """The exception itself: the lines before it are of machinery."""
    with suppress(IndexError):
        return str(error).strip().splitlines()[-1]
    return type(error).__name__
