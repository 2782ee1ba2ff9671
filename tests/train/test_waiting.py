"""How often a step waits for its device. A CPU waits for nobody, so what would wait on a GPU is counted here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import llmkit
from llmkit.train import world
from llmkit.train.loop import train

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
"""Operators that know what they return, or how large it is, only when the device has computed what it was asked for."""


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a CUDA device would be waited for: asking for a value, and copying from or to memory that is not pinned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Counter[str]] = []
        self.now: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen_by_mask = function is aten.index.Tensor and any(
            isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in tree_leaves(args[1])
        )
        if function in ASKING or chosen_by_mask:
            self.now[str(function)] += 1
        return function(*args, **(kwargs or {}))

    def step(self, *_: Any) -> None:
        self.steps.append(self.now)
        self.now = Counter()

    def allowed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The one place where a step may wait: counted once, whatever it does."""

        def reading(*args: Any, **kwargs: Any) -> Any:
            before = self.now.copy()
            found = call(*args, **kwargs)
            self.now = before + Counter([name])
            return found

        return reading

    def counted(self, name: str, call: Callable[..., Any], only_if: str | None = None) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.now[name] += only_if is None or only_if in kwargs
            return call(*args, **kwargs)

        return counting


@contextmanager
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """What the dispatcher does not see on a CPU is counted where it is called."""
    mode = Waits()
    for name in ("tolist", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, mode.counted(name, getattr(Tensor, name)))
    monkeypatch.setattr(world, "read", mode.allowed("read", world.read))
    monkeypatch.setattr(torch, "tensor", mode.counted("tensor", torch.tensor, only_if="device"))
    with mode:
        yield mode


MODELS = {
    "rope": [],
    "yarn": ["model.position={type: rope, scaling: {type: yarn, factor: 4, original_max_seq_len: 16}}"],
    "longrope": [
        "model.position={type: rope, scaling: {type: longrope, original_max_seq_len: 16, "
        "short_factor: [1, 1, 1, 1], long_factor: [1, 2, 3, 4]}}"
    ],
    "alibi": ["model.position=alibi"],
    "t5": ["model.position=t5"],
    "learned": ["model.position=learned"],
    "window": ["model.block.attention.window=8"],
    "documents": ["data.mask_documents=true"],
    "softcap": ["model.block.attention.softcap=20"],
    "mla": [
        "model.block.attention={type: mla, n_heads: 4, kv_lora_rank: 16, nope_head_width: 4, rope_head_width: 4, value_head_width: 8, "
        "norm: rmsnorm}"
    ],
    "differential": ["model.block.attention={type: differential, n_heads: 4, norm: rmsnorm}"],
    "moe": ["model.block.ffn={type: moe, n_experts: 4, n_active: 2, bias_rate: 0.001}"],
    "multi_token": ["train.objective=multi_token"],
    "bf16": ["train.precision=bf16"],
    "autocast": ["train.precision=bf16_autocast"],
    "accumulation": ["train.micro_batch_size=2"],
    "recompute": ["train.recompute=selective"],
    "rollback": ["train.spikes.policy=rollback", "train.checkpoint_every=100"],
    **{name: [f"train.optimizer={name}"] for name in ("adafactor", "lion", "muon", "schedule_free", "sgd")},
}


@pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
def test_a_step_waits_for_its_device_once(
    tiny: dict[str, Any], tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del tiny["train"]["checkpoint_every"]
    spec = llmkit.load_spec(tiny, overrides=[*overrides, "train.steps=5"])
    with waits(monkeypatch) as found:
        train(spec, out=tmp_path / "run", witness=found.step)
    # The first step has what comes before it, and the last what comes after.
    for waited in found.steps[1:-1]:
        assert +waited == {"read": 1}


def test_what_is_read_comes_from_a_device_in_one_transfer_whatever_lies_on_the_cpu_already(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers: list[torch.Size] = []

    def transfer(tensor: Tensor) -> list[float]:
        transfers.append(tensor.shape)
        return [10.0, 20.0]

    monkeypatch.setattr(Tensor, "tolist", transfer)
    there = torch.empty((), device="meta")
    assert world.read(1, there, torch.tensor(2.5), there.long(), True) == [1.0, 10.0, 2.5, 20.0, 1.0]
    assert transfers == [(2,)]
    assert world.read(torch.tensor(3), 4.5) == [3.0, 4.5] and len(transfers) == 1


def test_what_is_summed_stays_on_its_device() -> None:
    there = torch.device("meta")
    for value in (2.5, torch.ones((), device=there), torch.ones((), dtype=torch.int64, device=there)):
        found = world.on(there, value)
        assert found.device == there and found.dtype is torch.float64
