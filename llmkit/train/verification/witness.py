"""What a step of a run read and drew, written down on every rank: equal lines are equal steps."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmkit.core.interfaces.objective import Batch


class Witness:
    """Appends a line a step to a file of its own rank:

    step     counted from 1; a step that was computed again after a kill has one line more
    share    which share of the batch this rank reads; ranks that hold parts of one model read the same
    rows     SHA-256 of every sequence that this rank computed, in order: item, ids, targets, positions, segments, weights, extra
    random   SHA-256 of the state of torch's generators after the step: as the step seeded them, and moved on by what it drew
    history  which generators moved that no step seeds, Python's and numpy's; what they draw depends on what was drawn before
    """

    def __init__(self, file: Path, share: int = 0) -> None:
        self.file, self.share = file, share
        self._began = _unseeded()

    def __call__(self, step: int, batches: Sequence[Batch]) -> None:
        now = _unseeded()
        row = {
            "step": step,
            "share": self.share,
            "rows": [digest for batch in batches for digest in rows(batch)],
            "random": _seeded(),
            "history": [name for name in now if now[name] != self._began[name]],
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def rows(batch: Batch) -> list[str]:
    """SHA-256 of each sequence of a micro-batch, whatever others it is computed with."""
    named = {name: value for name, value in batch._asdict().items() if isinstance(value, Tensor)} | dict(batch.extra or {})
    return [_digest({name: value[row] for name, value in named.items() if _by_row(value, batch)}) for row in range(len(batch.ids))]


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor: its dtype, its shape, and its bytes."""
    flat = tensor.detach().cpu().contiguous()
    said = f"{flat.dtype}{tuple(flat.shape)}".encode()
    return hashlib.sha256(said + flat.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _by_row(value: Tensor, batch: Batch) -> bool:
    return value.dim() > 0 and len(value) == len(batch.ids)


def _digest(named: dict[str, Tensor]) -> str:
    return hashlib.sha256("".join(f"{name} {digest(named[name])}\n" for name in sorted(named)).encode()).hexdigest()


def _seeded() -> str:
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
    return hashlib.sha256("".join(map(digest, states)).encode()).hexdigest()


def _unseeded() -> dict[str, str]:
    states = {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)}
    return {name: hashlib.sha256(repr(state).encode()).hexdigest() for name, state in states.items()}
