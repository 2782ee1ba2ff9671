"""Checkpoints beside the training: what is saved is the moment's, one at a time, and no failure is silent."""

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from llmkit.core.errors import UserError
from llmkit.train.checkpoint import State, listed, state_of
from llmkit.train.keep import KeepRule
from llmkit.train.writer import CheckpointWriter

PATIENCE = 30


class Gate:
    """Files that the writer asks for before it writes: it waits here until it is let through."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self) -> list[Path]:
        self.reached.set()
        assert self.open.wait(PATIENCE)
        return []


def state(step: int, module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> State:
    return state_of(step, module, optimizer=optimizer, trainer={"tokens": step})


def weight_of(directory: Path) -> torch.Tensor:
    module = nn.Linear(2, 2, bias=False)
    listed(directory)[0].load_model(module)
    return module.weight.detach()


def test_a_checkpoint_is_of_its_moment_although_training_goes_on_while_it_is_written(tmp_path):
    module, gate = nn.Linear(2, 2, bias=False), Gate()
    before = module.weight.detach().clone()
    with CheckpointWriter(tmp_path, KeepRule(), gate) as writer:
        writer.save(state(1, module), {})
        assert gate.reached.wait(PATIENCE) and not listed(tmp_path)
        with torch.no_grad():
            module.weight.add_(1)
        writer.check()
        gate.open.set()
    assert torch.equal(weight_of(tmp_path), before) and listed(tmp_path)[0].damage() is None


def test_the_next_one_waits_for_the_one_before_and_what_the_rule_drops_goes_once_the_newer_is_complete(tmp_path):
    module, gate = nn.Linear(2, 2), Gate()
    threading.Timer(0.2, gate.open.set).start()
    with CheckpointWriter(tmp_path, KeepRule(last=1), gate) as writer:
        writer.save(state(1, module), {})
        writer.save(state(2, module), {})
        # The second was not begun before the first had passed the gate.
        assert gate.open.is_set()
    assert [one.step for one in listed(tmp_path)] == [2]


def test_what_goes_wrong_is_raised_once_in_the_next_step_and_names_the_checkpoint(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a directory should be")
    with CheckpointWriter(tmp_path / "checkpoints", KeepRule(), list) as writer:
        writer.save(state(7, nn.Linear(2, 2)), {})
        with pytest.raises(UserError, match=r"cannot write checkpoint '.*step-00000007'.*the earlier checkpoints are as they were"):
            writer.wait()
        writer.check()
    with pytest.raises(UserError, match="step-00000008"), CheckpointWriter(tmp_path / "checkpoints", KeepRule(), list) as writer:
        writer.save(state(8, nn.Linear(2, 2)), {})


def fail_after_saving(directory: Path) -> None:
    with CheckpointWriter(directory, KeepRule(), list) as writer:
        writer.save(state(1, nn.Linear(2, 2)), {})
        raise ZeroDivisionError


def test_an_error_of_the_loop_lets_a_checkpoint_on_its_way_arrive_and_is_not_hidden_by_one_of_the_disk(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_after_saving(tmp_path / "a")
    assert [one.damage() for one in listed(tmp_path / "a")] == [None]
    (tmp_path / "b").write_text("")
    with pytest.warns(UserWarning, match="cannot write checkpoint"), pytest.raises(ZeroDivisionError):
        fail_after_saving(tmp_path / "b")


def test_a_copy_shares_no_memory_with_what_it_is_of():
    module = nn.Linear(3, 3)
    copied = state(1, module).copied()
    assert not {tensor.data_ptr() for tensor in copied.weights.values()} & {one.data_ptr() for one in module.parameters()}
