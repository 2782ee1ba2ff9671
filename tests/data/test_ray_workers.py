"""The stages of a spec on Ray Data: a Ray of this machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.data import ray_workers
from llmkit.data.prepare import prepare
from llmkit.data.workers import Task, WorkerDied

pytest.importorskip("ray.data", reason="ray is not installed")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Fails:
    """One of its tasks is the user's mistake, another ends its process."""

    mistaken: int | None = None
    killed: int | None = None

    def run(self, directory: Path, task: Task) -> None:
        if task.index == self.mistaken:
            raise UserError("the second file is missing; bring it back")
        if task.index == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        task.account(directory).write_text("{}")


@pytest.fixture(scope="module")
def engine() -> Iterator[ray_workers.RayWorkers]:
    before = os.environ.get("PYTHONPATH")
    # The tasks import this file.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        with ray_workers.RayWorkers(2) as workers:
            yield workers
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def test_on_ray_the_same_bytes_come_out(make_spec: Callable[..., Spec], tmp_path: Path, engine: ray_workers.RayWorkers) -> None:
    for number in range(3):
        rows = [json.dumps({"text": f"document {index % 90} of the file {number} with enough words"}) for index in range(100)]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(rows) + "\nno json\n")
    source = {"type": "jsonl", "paths": [str(tmp_path / "*.jsonl")]}
    filters = {"words": {"type": "gopher_quality", "min_words": 5, "min_stop_words": 0, "min_alphabetic": 0}}
    found = []
    for name, chosen in (("ray", engine), ("here", None)):
        spec = make_spec(data={"source": source, "filters": filters, "deduplicators": {"exact": "exact"}, "cache": str(tmp_path / name)})
        with pytest.warns(UserWarning, match="3 records"):
            prepared = prepare(spec, engine=chosen)
        found.append({path.name: path.read_bytes() for path in prepared.directory.glob("[tvb]*")})
    assert found[0] == found[1] and len(found[0]) > 8
    assert prepared.funnel.kept.documents == 270


def test_the_users_mistake_comes_back_as_one(tmp_path: Path, engine: ray_workers.RayWorkers) -> None:
    with pytest.raises(UserError, match="the second file is missing; bring it back"):
        engine.run(Fails(mistaken=1), tmp_path, [Task(index) for index in range(3)], lambda done, total: None)
    assert (tmp_path / "00000.json").exists() and not (tmp_path / "00001.json").exists()


def test_a_machine_that_does_not_see_the_cache_is_told(tmp_path: Path, engine: ray_workers.RayWorkers) -> None:
    with pytest.raises(UserError, match=r"does not see .*; set data\.cache to a directory that all share"):
        engine.run(Fails(), tmp_path / "nowhere", [Task(0)], lambda done, total: None)


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="no Ray cluster answers at RAY_ADDRESS"), ray_workers.RayWorkers() as engine:
        engine.run(Fails(), tmp_path, [Task(0)], lambda done, total: None)


def test_a_task_that_dies_is_told(tmp_path: Path, engine: ray_workers.RayWorkers) -> None:
    with pytest.raises(WorkerDied, match=r"a task of the Ray cluster failed: .*; what is finished is kept"):
        engine.run(Fails(killed=0), tmp_path, [Task(0)], lambda done, total: None)
