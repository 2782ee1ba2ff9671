"""The runs of a verification: one that is left alone, one that is killed again and again, and what they are compared for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.core.errors import UserError
from llmkit.core.filled import filled, to_yaml
from llmkit.core.spec import ParallelSpec, Spec
from llmkit.data.durable import write_whole
from llmkit.train import checkpoint as checkpoints
from llmkit.train import world
from llmkit.train.progress import Silent
from llmkit.train.run import RunDirectory
from llmkit.train.verification import children
from llmkit.train.verification.comparison import Recorded

Say = Callable[[str], None]


class Kill(NamedTuple):
    """The process was killed after the row of this step; the next one went on from the checkpoint of `resumed_from`, 0 for none."""

    after_step: int
    resumed_from: int


class Session(NamedTuple):
    """One process after another works on a run: on so many ranks, until it is killed after a step, or to the end."""

    ranks: int
    kill_after: int | None = None


@dataclass(frozen=True)
class Made:
    """A run that was made to its end."""

    recorded: Recorded
    ranks: Sequence[int]
    kills: Sequence[Kill]


def make(spec_file: Path, out: Path, sessions: Sequence[Session], say: Say, progress: Callable[[int], None]) -> Made:
    """Work on a run in `out`, a session after another. The files of the witnesses lie beside it.

    progress  called a few times a second with the last step that is told
    `UserError` where a session raised one, `Failed` where it ended otherwise than it was to.
    """
    witnesses: list[list[Path]] = []
    kills: list[Kill] = []
    for number, session in enumerate(sessions):
        witnesses.append([out.with_name(f"{out.name}.session-{number}.rank-{rank}.jsonl") for rank in range(session.ranks)])
        _work(spec_file, out, session, witnesses[-1], _Steps(witnesses[-1][0], kills[-1].resumed_from if kills else 0, progress))
        if session.kill_after is not None:
            kills.append(Kill(session.kill_after, _whole_step(out, say)))
            left = processes(sessions[number + 1].ranks)
            say(f"  killed after step {kills[-1].after_step}; going on from step {kills[-1].resumed_from} on {left}")
    return Made(Recorded(RunDirectory(out), witnesses), [session.ranks for session in sessions], kills)


def _work(spec_file: Path, out: Path, session: Session, witnesses: Sequence[Path], look: Callable[[], None]) -> None:
    ended = children.run(_train, spec_file, out, session.kill_after, witnesses, ranks=session.ranks, look=look)
    due = 0 if session.kill_after is None else -signal.SIGKILL
    if ended.code != due:
        raise children.Failed(f"a process of the run in {str(out)!r} ended with {ended.code}, where {due} was due")


def _whole_step(out: Path, say: Say) -> int:
    """The step of the latest whole checkpoint, 0 where there is none."""
    latest = checkpoints.latest(RunDirectory(out).checkpoints, say)
    return 0 if latest is None else latest.step


def killed_at_every(every: int, steps: int, ranks: int, first_ranks: int | None = None) -> list[Session]:
    """Sessions that are killed after each `every`-th step before the last, and one that is not; the first may have other ranks."""
    sessions = [Session(ranks, step) for step in range(every, steps, every)]
    sessions.append(Session(ranks))
    if first_ranks is not None:
        sessions[0] = sessions[0]._replace(ranks=first_ranks)
    return sessions


def write_spec(spec: Spec, path: Path) -> None:
    """Where every session reads it."""
    write_whole(path, to_yaml(filled(spec)))


def processes(ranks: int) -> str:
    """In words."""
    return "1 process" if ranks == 1 else f"{ranks} processes"


class _Killer(Silent):
    """Kills its own process, as the kernel would for want of memory, once a step's row is in metrics.jsonl."""

    def __init__(self, after: int | None) -> None:
        self.after = after

    def step(self, row: dict[str, Any], total: int) -> None:
        if row["step"] == self.after:
            os.kill(os.getpid(), signal.SIGKILL)


def _train(spec_file: Path, out: Path, kill_after: int | None, witnesses: Sequence[Path]) -> dict[str, Any]:
    """A session, on one rank of it. One process alone has the whole model, whatever the spec's `parallel` says of several."""
    from llmkit.runtime import load_spec
    from llmkit.train.loop import train
    from llmkit.train.parallel.mesh import share_of
    from llmkit.train.recovery import Diverged
    from llmkit.train.verification.witness import Witness

    spec, rank = load_spec(spec_file), world.rank_from_environment()
    if len(witnesses) == 1:
        spec = spec.model_copy(update={"parallel": ParallelSpec()})
    witness = Witness(witnesses[rank], share_of(spec.parallel, rank))
    try:
        return train(spec, out=out, reporter=_Killer(kill_after), witness=witness)
    except Diverged as error:
        raise UserError(f"the run in {str(out)!r} ends before its last step: {error}") from None


@dataclass(frozen=True)
class _Steps:
    """How far a session has come, by the lines that its first rank has told since it began after step `begun`."""

    witness: Path
    begun: int
    progress: Callable[[int], None]

    def __call__(self) -> None:
        told = sum(1 for _ in self.witness.open("rb")) if self.witness.exists() else 0
        self.progress(self.begun + told)
