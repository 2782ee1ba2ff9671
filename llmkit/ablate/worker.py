"""A worker: a process that imports torch once and runs cells, one after another, until there are no more.

It is told what to do on stdin, a JSON object a line, and tells what became of it on its first stdout, likewise; whatever a library
prints goes to stderr. When whoever started it is gone, stdin ends, and it stops as for SIGTERM: with a complete checkpoint.

    python -m llmkit.ablate.worker THREADS
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import torch
import torch._dynamo  # What the first cell would load, and have counted as its memory and its time.
from filelock import FileLock, Timeout

from llmkit.ablate.cells import ENDING, EVALUATIONS, CellPlan, changed, evaluator_of, read_cell, read_json, state
from llmkit.ablate.memory import PeakMemory
from llmkit.ablate.ranks import ranks_of, train_on_ranks
from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.data.durable import remove, write_whole
from llmkit.runtime import catalog as installed
from llmkit.train.evaluation import Evaluating, chosen_evaluators
from llmkit.train.loop import train
from llmkit.train.progress import Silent
from llmkit.train.recovery import Diverged
from llmkit.train.run import load_run
from llmkit.train.signals import Interrupted
from llmkit.train.stacked import can_stack, train_together

TELL_SECONDS = 0.5
"""How often a step is told at most."""

Tell = Callable[[dict[str, Any]], None]


class Telling(Silent):
    """Hands warnings on, and now and then how far a cell has come."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._told = tell, time.monotonic()

    def say(self, text: str) -> None:
        if text.startswith("warning: "):
            self._tell({"is": "warning", "text": text.removeprefix("warning: ")})

    def step(self, row: dict[str, Any], total: int) -> None:
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self._tell({"is": "step", "step": row["step"], "of": total})


def run_cells(cells: Sequence[CellPlan], study: Path, catalog: Catalog, tell: Tell, processes: int | None = None) -> bool:
    """Run those of these cells that did not end yet, and leave in each how it ended. False where another process has one of them.

    Several are seeds of one arm, and are trained as one stacked model where their spec allows it. `processes` are the ranks of a cell,
    as many as its `parallel` asks for unless given. `UserError` and `Interrupted` are handed on, and leave a cell to be gone on with.
    """
    with ExitStack() as held:
        try:
            for cell in cells:
                held.enter_context(lock_of(study / cell.directory))
        except Timeout:
            return False
        todo = [cell for cell in cells if state(cell, study) is None]
        stacked = len(todo) > 1 and ranks_of(todo[0].spec, processes) == 1 and can_stack(todo[0].spec) is None
        took = _run_stacked(todo, study, catalog, tell) if stacked else 0.0
        for cell in todo:
            found = state(cell, study)
            if found is None or (took and found.ending == "finished"):
                _run(cell, study / cell.directory, catalog, tell, processes, took / len(todo))
    return True


def lock_of(directory: Path) -> FileLock:
    """A cell is one process's at a time. The lock lies beside the cell, so that a new run finds its directory empty."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(directory.with_name(f"{directory.name}.lock"), timeout=0)


def _run_stacked(cells: Sequence[CellPlan], study: Path, catalog: Catalog, tell: Tell) -> float:
    """Train seeds of one arm together, and return the seconds that it took; 0 where that fails, and each is to be trained alone."""
    began = time.perf_counter()
    try:
        outs = [study / cell.directory for cell in cells]
        results = train_together([cell.spec for cell in cells], outs, catalog=catalog, reporter=Telling(tell))
    except UserError:
        raise
    except Exception as error:
        tell({"is": "warning", "text": f"seeds of {cells[0].arm} are trained one by one: together, {type(error).__name__}: {error}"})
        return 0.0
    took = time.perf_counter() - began
    for cell, result in zip(cells, results, strict=True):
        if result.get("diverged"):
            _leave(study / cell.directory, {"ending": "diverged", "reason": result["diverged"], "seconds": took / len(cells)})
    return took


def _run(cell: CellPlan, directory: Path, catalog: Catalog, tell: Tell, processes: int | None, took: float = 0.0) -> None:
    """Run a cell to its end; one that was trained with others, and `took` its share of that, is there already but for what is evaluated."""
    memory, began = PeakMemory(), time.perf_counter()
    ending = _ending(cell, directory, catalog, tell, processes)
    seconds = took + time.perf_counter() - began
    _leave(directory, {"peak_memory_bytes": None if took else memory.bytes()} | ending | {"seconds": seconds})


def _leave(directory: Path, ending: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / ENDING, json.dumps(ending, indent=2) + "\n")


def _ending(cell: CellPlan, directory: Path, catalog: Catalog, tell: Tell, processes: int | None) -> dict[str, Any]:
    if changed(cell, directory):
        remove(directory)
    try:
        measured = _train(cell, directory, catalog, tell, ranks_of(cell.spec, processes))
        if names := changed(cell, directory):
            raise UserError(
                f"what it reads was changed since the study began ({', '.join(names)}); put it back, or start the same command again: "
                "cells of another text are cells of their own"
            )
        if cell.evaluation is not None:
            _evaluate(cell, cell.evaluation, directory, catalog)
    except Diverged as error:
        return {"ending": "diverged", "reason": str(error)}
    except UserError:
        raise
    except Exception as error:
        return {"ending": "crashed", "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return {"ending": "finished", **measured}


def _train(cell: CellPlan, directory: Path, catalog: Catalog, tell: Tell, ranks: int) -> dict[str, Any]:
    """Train here, or on ranks of its own; what was measured where this process cannot."""
    if ranks > 1:
        return train_on_ranks(cell.spec, directory, ranks, tell)
    train(cell.spec, out=directory, catalog=catalog, reporter=Telling(tell))
    return {}


def _evaluate(cell: CellPlan, evaluation: str, directory: Path, catalog: Catalog) -> None:
    """Run the evaluator that the metric is of. `UserError` where it has no such metric."""
    name, metric = evaluator_of(cell.metric) or "", cell.metric.rpartition(".")[2]
    (chosen,) = chosen_evaluators(cell.spec, [name], catalog)
    scores = Evaluating(load_run(directory, catalog)).evaluate(chosen).scores
    found = {score.metric: score.value if math.isfinite(score.value) else None for score in scores}
    if metric not in found:
        raise UserError(f"evaluator {name!r} has no metric {metric!r}; it has {', '.join(found)}: write metric: {name}.{next(iter(found))}")
    write_whole(directory / EVALUATIONS, json.dumps({**read_json(directory / EVALUATIONS), evaluation: found}, indent=2) + "\n")


def main() -> int:
    """Run what stdin says. The exit code is 0, or that of the signal that stopped it."""
    tell = _teller()
    torch.set_num_threads(int(sys.argv[1]))
    tell({"is": "ready"})
    for order in _orders():
        try:
            tell(obey(order, tell))
        except Interrupted as stopped:
            tell({"is": "stopped"})
            return stopped.exit_code
    return 0


def obey(order: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Run the cells of an order; what became of them, as a worker tells it."""
    catalog = installed()
    if catalog.fingerprint != order["catalog"]:
        return {"is": "mistake", "text": "workers find other components installed than this study was planned with; start it anew"}
    try:
        cells = [read_cell(cell, catalog) for cell in order["cells"]]
        return {"is": "done" if run_cells(cells, Path(order["study"]), catalog, tell, order["processes"]) else "busy"}
    except UserError as error:
        return {"is": "mistake", "text": str(error)}


def _orders() -> Iterator[dict[str, Any]]:
    """The lines of stdin, read beside the work, so that its end is noticed."""
    lines: queue.Queue[str | None] = queue.Queue()
    idle = threading.Event()
    idle.set()
    threading.Thread(target=_read, args=(sys.stdin, lines, idle), daemon=True).start()
    while (line := lines.get()) is not None:
        idle.clear()
        yield json.loads(line)
        idle.set()


def _read(stream: TextIO, lines: queue.Queue[str | None], idle: threading.Event) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
    if not idle.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _teller() -> Tell:
    """Writes to what was stdout, which from now on is stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(what: dict[str, Any]) -> None:
        with lock:
            try:
                print(json.dumps(what), file=pipe, flush=True)
            except BrokenPipeError:
                # Nobody listens any more; the end of stdin says what to do about it.
                return

    return tell


if __name__ == "__main__":
    sys.exit(main())
