"""Batches made ready ahead are those that are read when they are asked for, whatever a run does meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import llmkit
from llmkit.core.interfaces.objective import Batch
from llmkit.data.batches import Batches
from llmkit.data.tokens import TokenFile, TokenWriter, seal
from llmkit.train import feeding
from llmkit.train.feeding import Feeder, OnTheSpot, Pinned, Share
from llmkit.train.loop import train

CPU = torch.device("cpu")


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    """33 sequences of 8 tokens, 6 in a batch."""
    with TokenWriter(tmp_path, "train", vocab_size=100, eos_id=0, tokenizer="none") as writer:
        writer.add("text", np.random.default_rng(0).integers(1, 100, 270).tolist(), 270)
    seal(tmp_path, "train", sources={"random": 1})
    return Batches(TokenFile(tmp_path, "train", tokenizer="none"), seq_len=8, batch_size=6, seed=3, mask_documents=True)


class Recording:
    """A crossing that tells which thread a batch was sent and received in, and hands it over only when it is received."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.received: list[str] = []

    def send(self, batch: Batch) -> Callable[[], Batch]:
        self.sent.append(threading.current_thread().name)

        def receive() -> Batch:
            self.received.append(threading.current_thread().name)
            return batch

        return receive


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field, wanted in zip(one, other, strict=True):
            assert (field is None and wanted is None) or torch.equal(field, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [Share(0, 6, 6), Share(0, 6, 4), Share(1, 3, 1), Share(2, 2, 2)], ids=str)
def test_batches_made_ready_ahead_are_those_that_are_read_at_once(batches: Batches, share: Share) -> None:
    with Feeder(batches, share, CPU, ahead=True) as ahead, Feeder(batches, share, CPU) as at_once:
        for number in range(12):
            items, micros = ahead.take(number, number + 1)
            expected, known = at_once.take(number, number + 1)
            assert items.tolist() == expected.tolist() == batches.items(number).tolist()
            assert_same(micros, known)


def test_ranks_and_micro_batches_cut_a_batch_into_all_of_its_sequences_in_order(batches: Batches) -> None:
    items = batches.items(4)
    for ranks in (1, 2, 3):
        for micro in (1, 2, 4):
            parts = [part for rank in range(ranks) for part in Share(rank, 6 // ranks, micro).cut(items)]
            assert np.concatenate(parts).tolist() == items.tolist()
            assert max(map(len, parts)) <= micro


def test_what_was_made_ready_for_another_batch_is_thrown_away(batches: Batches) -> None:
    # A rollback to batch 2, a window of batches left out, and the recovery's own look at some sequences in between.
    with Feeder(batches, Share(0, 6, 4), CPU, ahead=True) as feeder:
        for number, following in [(0, 1), (1, 2), (2, 3), (3, 4), (2, 3), (9, 10), (10, None), (11, 12)]:
            items, micros = feeder.take(number, following)
            assert items.tolist() == batches.items(number).tolist()
            assert torch.cat([one.ids for one in micros]).tolist() == batches.batch(items).ids.tolist()
            other = feeder.read(batches.items(20))
            assert torch.cat([one.ids for one in other]).tolist() == batches.batch(batches.items(20)).ids.tolist()


def test_the_next_batch_is_sent_by_a_thread_and_received_by_the_one_that_computes(batches: Batches) -> None:
    crossing = Recording()
    with Feeder(batches, Share(0, 6, 2), CPU, crossing=crossing, ahead=True) as feeder:
        for number in range(4):
            feeder.take(number, number + 1 if number < 3 else None)
    here = threading.current_thread().name
    assert crossing.sent[:3] == [here] * 3
    assert len(crossing.sent) == 12 and all(name.startswith("feeder") for name in crossing.sent[3:])
    assert crossing.received == [here] * 12


def test_on_the_cpu_no_thread_is_started(batches: Batches) -> None:
    crossing = Recording()
    with Feeder(batches, Share(0, 6, 6), CPU, crossing=crossing) as feeder:
        for number in range(3):
            feeder.take(number, number + 1)
    assert crossing.sent == [threading.current_thread().name] * 3


def test_the_thread_ends_with_the_feeder_and_what_fails_in_it_is_raised_where_the_batch_is_taken(batches: Batches) -> None:
    class Torn(OnTheSpot):
        def send(self, batch: Batch) -> Callable[[], Batch]:
            if threading.current_thread().name.startswith("feeder"):
                raise OSError("the disk is gone")
            return super().send(batch)

    with Feeder(batches, Share(0, 6, 6), CPU, crossing=Torn(CPU), ahead=True) as feeder:
        feeder.take(0, 1)
        with pytest.raises(OSError, match="the disk is gone"):
            feeder.take(1, None)
        assert any(thread.name.startswith("feeder") for thread in threading.enumerate())
    assert not any(thread.name.startswith("feeder") for thread in threading.enumerate())


class Device:
    """The rules of a CUDA device, kept on the CPU: what is copied on a stream is there only for who waited for the copy, and its
    memory is given away again unless the stream that reads it was named."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.copying = self.stream("copying")
        self.computing = self.stream("computing")
        self.entered: list[Any] = []

    def stream(self, name: str) -> Any:
        device = self

        class Stream:
            def record_event(self) -> str:
                device.log.append(f"event on {name}")
                return f"event of {name}"

            def wait_event(self, event: str) -> None:
                device.log.append(f"{name} waits for {event}")

        made = Stream()
        made.name = name  # type: ignore[attr-defined]
        return made

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        self.entered.append(stream)
        try:
            yield
        finally:
            self.entered.pop()

    def copy(self, tensor: Tensor, to: Any, *, non_blocking: bool) -> Tensor:
        assert to == "the device" and non_blocking
        assert getattr(tensor, "pinned", False), "memory that is not pinned is copied while the CPU waits"
        self.log.append(f"copy on {self.entered[-1].name}")
        return tensor.clone()


def test_a_batch_crosses_by_pinned_memory_on_a_stream_of_its_own_and_is_waited_for_where_it_is_read(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    recorded: list[str] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        pinned.pinned = True  # type: ignore[attr-defined]
        return pinned

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: device.copying)
    monkeypatch.setattr(torch.cuda, "stream", device.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: device.computing)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", lambda tensor, to, **how: device.copy(tensor, to, **how))
    monkeypatch.setattr(Tensor, "record_stream", lambda _, stream: recorded.append(stream.name))
    batch = batches.batch(batches.items(0))
    receive = Pinned("the device").send(batch)  # type: ignore[arg-type]
    # ids, targets, positions, segments and item_ids.
    assert device.log == ["copy on copying"] * 5 + ["event on copying"]
    assert recorded == []
    found = receive()
    assert device.log[6:] == ["computing waits for event of copying"]
    assert recorded == ["computing"] * 5
    monkeypatch.undo()
    assert_same([found], [batch])


def test_a_run_fed_ahead_is_the_run_that_is_not_to_the_last_bit(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {}
    for name in ("at once", "ahead"):
        if name == "ahead":
            monkeypatch.setattr(feeding, "makes_ready", lambda device: True)
        train(llmkit.load_spec(tiny, overrides=["train.micro_batch_size=2"]), out=tmp_path / name)
        ledger = (tmp_path / name / "ledger.jsonl").read_text()
        weights[name] = ledger, load_file(tmp_path / name / "checkpoints" / "step-00000010" / "model.safetensors")
    assert weights["ahead"][0] == weights["at once"][0]
    for key, tensor in weights["at once"][1].items():
        assert torch.equal(tensor, weights["ahead"][1][key])
