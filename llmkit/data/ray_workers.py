"""The tasks of a stage on a Ray cluster, through Ray Data: a row of a table each, as on one machine.

Nothing but the task goes to a machine, and nothing comes back but that it is done: shards and their accounts are files in the cache, which
every machine of the cluster has to see at the same path. So a stage may go on here where it was killed there.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmkit.core.errors import UserError
from llmkit.data.ray_cluster import Cluster, installed_ray_data, last_line
from llmkit.data.workers import Job, Task, Tell, WorkerDied, usable_cores, watched


class RayWorkers:
    """What runs tasks, from the first of them to the end of the `with`.

    count  how many tasks run at once; as many as the cluster has CPUs for unless given
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count
        self._data = installed_ray_data()
        self._cluster = Cluster(usable_cores())
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            self._cluster.close()

    def run(self, job: Job, directory: Path, tasks: Sequence[Task], tell: Tell) -> None:
        """Do every task that is not done."""
        left = [task for task in tasks if not task.account(directory).exists()]
        tell(len(tasks) - len(left), len(tasks))
        if not left:
            return
        if not self._open:
            # Not earlier: where everything is there already, no cluster is needed.
            self._open = True
            self._cluster.open()
        with watched(directory, tasks, tell):
            self._map(_Piece(pickle.dumps(job), str(directory.absolute()), metadata.version("llmkit")), left)

    def _map(self, piece: _Piece, tasks: Sequence[Task]) -> None:
        ordered = sorted(tasks, key=lambda task: (-task.size, task.index))
        rows = [{"index": task.index, "size": task.size} for task in ordered]
        table = self._data.from_items(rows, override_num_blocks=len(rows))
        count = min(self._count, len(rows)) if self._count is not None else None
        try:
            # Not tried again, for ever and without a word, where it dies.
            told = table.map(piece, num_cpus=1, concurrency=count, max_retries=0).take_all()
        except self._cluster.ray.exceptions.RayError as error:
            raise WorkerDied(f"a task of the Ray cluster failed: {last_line(error)}; what is finished is kept") from None
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
