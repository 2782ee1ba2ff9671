"""In what two runs differ: everything that a run leaves behind but the clock, step by step and tensor by tensor."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from llmkit.train import checkpoint as checkpoints
from llmkit.train.run import RunDirectory
from llmkit.train.verification.witness import digest

CLOCK = frozenset({"seconds", "tokens_per_second", "mfu", "peak_memory", "run", "resumed_from"})
"""Keys of rows and of the result that may differ between equal runs, beside all whose names end in `_per_second` or `_seconds`."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Recorded:
    """A run to be compared: its directory, and, for every session of it, what the witnesses of its ranks wrote."""

    directory: RunDirectory
    sessions: Sequence[Sequence[Path]]


@dataclass(frozen=True)
class Difference:
    """Where two runs part: what it is (`weights`), after which step, which of it (a tensor's name), and by how much.

    largest   largest absolute difference; None where it is no number
    relative  the difference's Euclidean norm over that of the straight run's
    """

    step: int
    name: str
    largest: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Compared:
    """One kind of thing that both runs left: how many there are, the SHA-256 of all of them in either, and the first that differs.

    tolerance  the largest `relative` that counts as rounding; 0 where every bit must be equal
    relative   the largest there is
    """

    what: str
    count: int
    straight: str
    resumed: str
    tolerance: float = 0.0
    relative: float = 0.0
    largest: float = 0.0
    first: Difference | None = None

    @property
    def equal(self) -> bool:
        """Whether every bit is."""
        return self.straight == self.resumed

    @property
    def holds(self) -> bool:
        """Whether it is what was promised: equal, or within the tolerance."""
        return self.equal or (self.first is None and self.tolerance > 0)


class Tolerance(NamedTuple):
    """What counts as rounding where ranks add up their parts in another order: relative differences, of tensors in the Euclidean norm.

    loss       of the loss at each step and of evaluations
    weights    of each weight at each checkpoint
    gradients  of the gradient's norm at each step, and of each tensor of the optimizer's state: they are what rounding shows in first
    """

    loss: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0


EXACT = Tolerance()

ANY_NUMBER = sys.float_info.max
"""A tolerance that is none: whatever is a number holds, and is told how far apart it is."""


def compare(straight: Recorded, resumed: Recorded, tolerance: Tolerance = EXACT) -> list[Compared]:
    """All that two runs left behind, in the order in which it came to be. With a tolerance, they may be of different numbers of ranks.

    What depends on the number of ranks by design is then left out: each rank draws from a stream of its own.
    """
    exact = tolerance == EXACT
    left, right = _Told(straight), _Told(resumed)
    found = [_same("data order and tokens", left.batches(), right.batches())]
    if exact:
        found.append(_same("random states", left.random(), right.random()))
    found += [
        _rows("losses", left.losses(), right.losses(), tolerance.loss),
        _rows("gradient norms", left.norms(), right.norms(), tolerance.gradients),
        _rows("evaluations", left.evaluations(), right.evaluations(), tolerance.loss),
        _tensors("weights", left.tensors(checkpoints.MODEL), right.tensors(checkpoints.MODEL), tolerance.weights),
        _tensors("optimizer state", left.tensors(checkpoints.OPTIMIZER), right.tensors(checkpoints.OPTIMIZER), tolerance.gradients),
        _rows("optimizer groups", left.documents(checkpoints.GROUPS), right.documents(checkpoints.GROUPS), 0.0),
    ]
    if exact:
        found.append(_rows("trainer state", left.documents(checkpoints.TRAINER), right.documents(checkpoints.TRAINER), 0.0))
        found += [_rows(name, left.rows(name), right.rows(name), 0.0) for name in ("ledger", "samples", "spikes")]
    return found


def tensor_digests(run: Recorded) -> dict[str, dict[str, str]]:
    """SHA-256 of every tensor of the run's last checkpoint, by file and name."""
    last = checkpoints.listed(run.directory.checkpoints)[0].directory
    return {
        path.name: {name: digest(value) for name, value in sorted(load_file(path).items())} for path in sorted(last.glob("*.safetensors"))
    }


class _Told:
    """What a run left, in a form in which two can be laid side by side."""

    def __init__(self, run: Recorded) -> None:
        self.run = run
        self.told: dict[int, list[Rows]] = {}
        for session in run.sessions:
            _add_session(self.told, [_lines(path) for path in session])

    def batches(self) -> Iterator[tuple[int, str, str]]:
        """(step, name, digest) of every sequence of every step, the shares of the batch in their order.

        A step that was computed again after a kill has to be what it was, and so has a share that several ranks read: where it is
        not, both are told.
        """
        for step, times in sorted(self.told.items()):
            for place, digests in enumerate(zip_longest(*{rows for ranks in times for rows in _read(ranks)})):
                yield step, f"sequence {place}", " ".join(map(str, digests))

    def random(self) -> Iterator[tuple[int, str, str]]:
        """(step, name, digest) of the state of every rank's generators; and which moved without a seed of the step."""
        for step, times in sorted(self.told.items()):
            for number, lines in enumerate(zip(*times, strict=True)):
                yield step, f"rank {number}", " ".join(sorted({line["random"] for line in lines}))
                yield step, f"unseeded generators, rank {number}", " ".join(sorted({name for line in lines for name in line["history"]}))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file of the run."""
        return _lines(self.run.directory.root / f"{name}.jsonl")

    def losses(self) -> Rows:
        """Rows of steps, but for the gradient's norm."""
        return [{name: value for name, value in row.items() if name != "grad_norm"} for row in self._steps()]

    def norms(self) -> Rows:
        """The gradient's norm of every step."""
        return [{"step": row["step"], "grad_norm": row["grad_norm"]} for row in self._steps()]

    def evaluations(self) -> Rows:
        """Rows of evaluations, and the result, which is the last one."""
        result = self.run.directory.recorded_result() or {}
        return [*(row for row in self.rows("metrics") if "val_loss" in row), result]

    def documents(self, name: str) -> Rows:
        """A JSON file of every checkpoint, the earliest first."""
        return [{"step": one.step} | json.loads((one.directory / name).read_text()) for one in self._checkpoints()]

    def tensors(self, name: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """(step, tensors) of a file of every checkpoint, the earliest first."""
        for one in self._checkpoints():
            yield one.step, load_file(one.directory / name)

    def _steps(self) -> Rows:
        return [row for row in self.rows("metrics") if "val_loss" not in row]

    def _checkpoints(self) -> list[checkpoints.Checkpoint]:
        return checkpoints.listed(self.run.directory.checkpoints)[::-1]


def _read(ranks: Rows) -> Iterator[tuple[str, ...]]:
    """The sequences of a step, the ranks' shares in their order; more than once where ranks of one share read other ones."""
    shares: dict[int, dict[tuple[str, ...], None]] = {}
    for rank in ranks:
        shares.setdefault(rank["share"], {})[tuple(rank["rows"])] = None
    for parts in zip_longest(*(shares[share] for share in sorted(shares)), fillvalue=()):
        yield tuple(row for part in parts for row in part)


def _add_session(told: dict[int, list[Rows]], ranks: Sequence[Rows]) -> None:
    """Under each step the ranks' lines of it. The last step before a kill some ranks may not have told: it is told again."""
    by_step = [{line["step"]: line for line in lines} for lines in ranks]
    for step in sorted(set.intersection(*map(set, by_step))):
        told.setdefault(step, []).append([lines[step] for lines in by_step])


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _same(what: str, left: Iterator[tuple[int, str, str]], right: Iterator[tuple[int, str, str]]) -> Compared:
    mine, other = list(left), list(right)
    first = next((Difference(*(one or two)[:2]) for one, two in zip_longest(mine, other) if one != two), None)
    return Compared(what, len(mine), _hash(map(str, mine)), _hash(map(str, other)), first=first)


def _rows(what: str, left: Rows, right: Rows, tolerance: float) -> Compared:
    mine, other = [_timeless(row) for row in left], [_timeless(row) for row in right]
    first, worst, largest = None, 0.0, 0.0
    for one, two in zip_longest(mine, other):
        for name, relative, absolute in _apart(one or {}, two or {}):
            worst, largest = max(worst, relative), max(largest, absolute)
            if first is None and not 0 < relative <= tolerance:
                first = Difference(int((one or two or {}).get("step", 0)), name, absolute, relative)
    return Compared(what, len(mine), _hash(map(_written, mine)), _hash(map(_written, other)), tolerance, worst, largest, first)


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in CLOCK and not name.endswith(("_per_second", "_seconds"))}


def _apart(one: Any, two: Any, name: str = "") -> Iterator[tuple[str, float, float]]:
    """(address, relative, absolute difference) of every value that is not the same; infinite where it is no number."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in {**one, **two}:
            yield from _apart(one.get(key), two.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for place, (mine, other) in enumerate(zip(one, two, strict=True)):
            yield from _apart(mine, other, f"{name}.{place}")
    elif isinstance(one, float) and isinstance(two, float):
        if one != two:
            yield name, abs(one - two) / max(abs(one), 1e-30), abs(one - two)
    elif one != two:
        yield name, math.inf, math.inf


Tensors = Iterator[tuple[int, dict[str, Tensor]]]
Apart = tuple[float, float]


def _tensors(what: str, left: Tensors, right: Tensors, tolerance: float) -> Compared:
    """Every tensor of every checkpoint; two checkpoints are in memory at once."""
    hashes: tuple[list[str], list[str]] = ([], [])
    first, worst, largest, count = None, 0.0, 0.0, 0
    for one, two in _zipped(left, right):
        for step, name, mine, other in _by_name(one, two):
            count += mine is not None
            for side, value in zip(hashes, (mine, other), strict=True):
                side.append(f"{step} {name} {digest(value) if value is not None else None}")
            if hashes[0][-1] == hashes[1][-1]:
                continue
            relative, absolute = _distance(mine, other)
            worst, largest = max(worst, relative), max(largest, absolute)
            if first is None and (tolerance == 0 or not relative <= tolerance):
                first = Difference(step, name, absolute, relative)
    return Compared(what, count, _hash(hashes[0]), _hash(hashes[1]), tolerance, worst, largest, first)


def _zipped(left: Tensors, right: Tensors) -> Iterator[tuple[tuple[int, dict[str, Tensor]], tuple[int, dict[str, Tensor]]]]:
    """Checkpoints side by side by step; an empty one where a run has none of that step."""
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        step = min(side[0] for side in (one, two) if side is not None)
        mine = one if one is not None and one[0] == step else (step, {})
        other = two if two is not None and two[0] == step else (step, {})
        yield mine, other
        one = next(left, None) if one is mine else one
        two = next(right, None) if two is other else two


def _by_name(
    one: tuple[int, dict[str, Tensor]], two: tuple[int, dict[str, Tensor]]
) -> Iterator[tuple[int, str, Tensor | None, Tensor | None]]:
    for name in sorted({*one[1], *two[1]}):
        yield one[0], name, one[1].get(name), two[1].get(name)


def _distance(one: Tensor | None, two: Tensor | None) -> Apart:
    """Relative in the Euclidean norm, and the largest absolute difference; infinite where they cannot be subtracted."""
    if one is None or two is None or one.shape != two.shape:
        return math.inf, math.inf
    mine, other = one.double(), two.double()
    apart = (mine - other).abs()
    if not bool(torch.isfinite(apart).all()):
        return math.inf, math.inf
    # A tensor of zeros has no size of its own: what differs from it by anything is another.
    return float(apart.norm() / mine.norm().clamp(min=1e-30)), float(apart.max()) if apart.numel() else 0.0


def _hash(parts: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() + b"\n")
    return whole.hexdigest()


def _written(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)
