"""`--processes N`: N interpreters of this program on this machine, for a person who knows no launcher."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType


def launch(arguments: Sequence[str], processes: int, module: str = "llmkit") -> int:
    """Run `python -m MODULE ARGUMENTS` as so many ranks; rank 0 speaks for all. The exit code is rank 0's, or that of who failed first.

    Signals are forwarded, and every rank stops after the same step. The ranks have a session of their own: a terminal's Ctrl-C
    would otherwise reach them twice, from the terminal and from here, and a second Ctrl-C does not wait for the step.
    """
    command = [sys.executable, "-m", module, *arguments]
    port = free_port()
    ranks = [
        subprocess.Popen(command, env=rank_environment(rank, processes, port), stdout=_stdout(rank), start_new_session=True)
        for rank in range(processes)
    ]

    def forward(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    """Until all have ended. Where one fails, the others wait for it in a collective for ever: they are ended."""
    while True:
        for rank in ranks:
            try:
                code = rank.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            if code != 0:
                return _first_rank_code(ranks, code)
        if all(rank.poll() == 0 for rank in ranks):
            return 0


def _first_rank_code(ranks: Sequence[subprocess.Popen[bytes]], code: int) -> int:
    """Rank 0's code where it ends by itself soon: its message is the one that the person reads, and 0 means that all is recorded."""
    try:
        failed = ranks[0].wait(timeout=10)
    except subprocess.TimeoutExpired:
        failed = code
    return 128 - failed if failed < 0 else failed


def rank_environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """What a rank finds in its environment, as torchrun would set it, with its share of the cores."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max((os.cpu_count() or 1) // processes, 1))
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": threads,
    }


def _stdout(rank: int) -> int | None:
    return None if rank == 0 else subprocess.DEVNULL


def free_port() -> int:
    """A port that nobody listens on, below those that systems give to connections: the ranks meet there some seconds later."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
