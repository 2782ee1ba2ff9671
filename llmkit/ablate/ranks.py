"""A cell that is trained by several ranks: the worker starts them as `llmkit train --processes` does, and waits.

Torch-free until there are ranks. A rank is a process of its own:

    python -m llmkit.ablate.ranks ORDER.json OUTCOME.json
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.spec import Spec
from llmkit.data.durable import write_whole
from llmkit.runtime import catalog as installed
from llmkit.runtime import load_spec
from llmkit.train.launch import launch
from llmkit.train.signals import Interrupted

WATCH_SECONDS = 0.2
"""How often a rank looks whether the worker that started it is still there. It must be gone before another worker's ranks have started."""

BROKEN = ("error", "killed")

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def ranks_of(spec: Spec, processes: int | None) -> int:
    """How many ranks train a spec: `processes`, or as many as its `parallel` asks for."""
    return processes or spec.parallel.ranks


def check_ranks_of(specs: dict[str, Spec], processes: int | None) -> int:
    """The most ranks that a cell of these arms takes. `UserError`, which names the arm, where so many cannot train one."""
    most = 1
    for arm, spec in specs.items():
        ranks = ranks_of(spec, processes)
        if ranks > 1:
            _check(arm, spec, ranks)
        most = max(most, ranks)
    return most


def _check(arm: str, spec: Spec, ranks: int) -> None:
    """Imports torch."""
    from llmkit.train.parallel.checks import check_model, check_ranks

    try:
        check_ranks(spec, ranks)
        check_model(spec)
    except UserError as error:
        raise UserError(f"{arm}: {error}") from None


def train_on_ranks(spec: Spec, directory: Path, ranks: int, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train a spec into a run's directory on so many ranks; what the first of them measured.

    Raises what `train` raises. Where a rank dies the others meet an error of the connection, which is nobody's mistake: ranks that end so
    are tried once more, from the last checkpoint.
    """
    told, code = _launched(spec, directory, ranks, tell)
    if told["is"] in BROKEN:
        tell(
            {
                "is": "warning",
                "text": f"ranks of {directory.parent.name} {directory.name} broke off and are tried once more: {told['text']}",
            }
        )
        told, code = _launched(spec, directory, ranks, tell)
    return _took(told, code)


def _launched(spec: Spec, directory: Path, ranks: int, tell: Callable[[dict[str, Any]], None]) -> tuple[dict[str, Any], int]:
    """What the first rank left, and its exit code."""
    with tempfile.TemporaryDirectory(prefix="llmkit-ranks-") as place:
        order, outcome = Path(place) / "order.json", Path(place) / "outcome.json"
        order.write_text(json.dumps({"spec": spec.model_dump(mode="json"), "out": str(directory)}), encoding="utf-8")
        code = launch([str(order), str(outcome)], ranks, "llmkit.ablate.ranks")
        told = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else _untold(code)
    for text in told.pop("warnings", ()):
        tell({"is": "warning", "text": text})
    return told, code


def _untold(code: int) -> dict[str, Any]:
    """What became of ranks of which the first left nothing."""
    if code in STOPPED:
        return {"is": "stopped", "text": "stopped before the first step"}
    return {"is": "killed", "text": f"a rank ended with exit code {code}"}


def _took(told: dict[str, Any], code: int) -> dict[str, Any]:
    """What a cell's ranks measured, or the exception that they met."""
    from llmkit.train.recovery import Diverged

    kind = told.pop("is")
    if kind == "trained":
        return told
    if kind == "diverged":
        raise Diverged(told["text"])
    if kind == "mistake":
        raise UserError(told["text"])
    if kind == "stopped":
        raise Interrupted(told["text"], code)
    raise RuntimeError(f"{told['text']} (on {'the first of ' * (kind == 'error')}its ranks, twice)")


def main() -> int:
    """Train one rank's part. The first rank leaves what became of it."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Ray blocks it in all that it starts, and it is how a task is asked to stop.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    outcome = _outcome(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    code: int = outcome.pop("code")
    if os.environ["RANK"] == "0":
        write_whole(Path(sys.argv[2]), json.dumps(outcome))
    return code


def _outcome(order: dict[str, Any]) -> dict[str, Any]:
    from llmkit.ablate.memory import PeakMemory
    from llmkit.ablate.worker import Telling
    from llmkit.train.loop import train
    from llmkit.train.recovery import Diverged

    warned: list[str] = []
    reporter = Telling(lambda told: warned.append(told["text"]) if told["is"] == "warning" else None)
    catalog, memory = installed(), PeakMemory()
    try:
        train(load_spec(order["spec"], catalog=catalog), out=Path(order["out"]), catalog=catalog, reporter=reporter)
        found = {"is": "trained", "code": 0, "peak_memory_bytes": memory.bytes()}
    except Interrupted as stopped:
        found = {"is": "stopped", "code": stopped.exit_code, "text": str(stopped)}
    except Diverged as error:
        found = {"is": "diverged", "code": 1, "text": str(error)}
    except UserError as error:
        found = {"is": "mistake", "code": 1, "text": str(error)}
    except Exception as error:
        traceback.print_exc()
        found = {"is": "error", "code": 1, "text": f"{type(error).__name__}: {error}"}
    return found | {"warnings": warned}


def _end_with(parent: int) -> None:
    """End at once where the worker is gone: its cell is another's then, and this process holds the run's lock."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
