"""Processes of our own: the ranks of a task, each in a fresh interpreter that can be killed without harm.

They are forked from a server that has imported everything and computed nothing: a process of a program that computes cannot be forked,
for its threads stay behind, and one that begins from nothing imports torch for seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from llmkit.core.errors import UserError
from llmkit.train.launch import free_port, rank_environment

PRELOADED = ["llmkit.train.loop", "torch._dynamo"]
"""What every task imports; torch imports the second by itself, and for seconds, once a model is built on the meta device."""

LOOK_SECONDS = 0.2
GRACE_SECONDS = 0.5


class Ended(NamedTuple):
    """How a task ended: 0 and what rank 0 returned, or the exit code of a rank that failed; minus the signal where one was killed."""

    code: int
    value: Any = None


class Failed(Exception):
    """A task raised what is no `UserError`; the message is its traceback."""


def run(task: Callable[..., Any], *arguments: Any, ranks: int = 1, look: Callable[[], None] | None = None) -> Ended:
    """Call `task(*arguments)` on so many ranks and wait for all; where one fails, the others are killed.

    Task and arguments are pickled: a function by its module and name. `look` is called a few times a second meanwhile.
    Raises the `UserError` that a rank raised, `Failed` for anything else; not where a rank was killed, of which the others die.
    """
    context = _context()
    port = free_port()
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank in range(ranks):
            environment = rank_environment(rank, ranks, port) if ranks > 1 else dict(os.environ)
            started.append(_start(context, _Call(task, arguments, environment, os.getcwd())))
        code = _wait([process for process, _ in started], look)
        return _answer(code, [reply for _, reply in started])
    finally:
        for process, _ in started:
            process.kill()
            process.join()


class _Call(NamedTuple):
    task: Callable[..., Any]
    arguments: tuple[Any, ...]
    environment: Mapping[str, str]
    directory: str


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _start(context: BaseContext, call: _Call) -> tuple[BaseProcess, Connection]:
    reply, answer = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(call, answer))  # type: ignore[attr-defined]
    process.start()
    answer.close()
    return process, reply


def _child(call: _Call, answer: Connection) -> None:
    """The server was started in some directory and environment: the task has those of the caller."""
    os.chdir(call.directory)
    os.environ.clear()
    os.environ.update(call.environment)
    _set_threads()
    try:
        answer.send(("value", call.task(*call.arguments)))
    except UserError as error:
        answer.send(("user error", str(error)))
        raise SystemExit(2) from None
    except Exception:
        answer.send(("failure", traceback.format_exc()))
        raise SystemExit(1) from None


def _set_threads() -> None:
    """torch read OMP_NUM_THREADS when the server imported it, which is not yet this task's."""
    if "OMP_NUM_THREADS" not in os.environ:
        return
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _wait(ranks: Sequence[BaseProcess], look: Callable[[], None] | None) -> int:
    """Until all have ended well, or one has not: the others would wait for it in a collective for ever."""
    while (left := [rank.sentinel for rank in ranks if rank.exitcode is None]) and not any(rank.exitcode for rank in ranks):
        wait(left, timeout=LOOK_SECONDS)
        if look is not None:
            look()
    # One that fails because another died may be seen before it.
    for rank in ranks if any(rank.exitcode for rank in ranks) else ():
        rank.join(GRACE_SECONDS)
    return min((rank.exitcode for rank in ranks if rank.exitcode), default=0)


def _answer(code: int, replies: Sequence[Connection]) -> Ended:
    if code < 0:
        return Ended(code)
    told = [one for reply in replies if (one := _received(reply)) is not None]
    for kind, text in told:
        if kind == "user error":
            raise UserError(text)
    for kind, text in told:
        if kind == "failure":
            raise Failed(text)
    return Ended(code, told[0][1]) if code == 0 else Ended(code)


def _received(reply: Connection) -> tuple[str, Any] | None:
    """What a rank said at its end; None where it was killed before it could."""
    try:
        answer: tuple[str, Any] | None = reply.recv() if reply.poll() else None
    except EOFError:
        return None
    return answer
