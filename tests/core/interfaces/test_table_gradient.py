"""Gradients of tables that add up in place, against autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llmkit.core.interfaces.table import TableGradient, gradient_in_place
from llmkit.model.embedding import Embedding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_read_again_and_again_add_up_in_fp32_to_what_autograd_says(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ids, slopes = torch.randint(5, (4, 9)), torch.randn(4, 9, 3).to(dtype)
    ours, exact = Embedding(7, 3).to(dtype), nn.Embedding(7, 3, dtype=torch.float64)
    master = nn.Parameter(ours.weight.detach().float())
    ours.weight.table_gradient = TableGradient(master)  # type: ignore[attr-defined]
    for _ in range(2):
        found = ours(ids)
        assert torch.equal(found, nn.functional.embedding(ids, ours.weight))
        found.backward(slopes)
        exact(ids).backward(slopes.double())
    assert ours.weight.grad is None
    torch.testing.assert_close(master.grad.double(), exact.weight.grad, rtol=1e-6, atol=1e-6)
    assert bool((master.grad[5:] == 0).all())


def test_without_one_a_table_is_autograds() -> None:
    layer = Embedding(7, 3)
    layer(torch.tensor([1, 1])).sum().backward()
    assert gradient_in_place(layer.weight) is None
    assert torch.equal(layer.weight.grad, torch.zeros(7, 3).index_fill_(0, torch.tensor([1]), 2.0))


def test_memory_stays_from_step_to_step_and_is_lent_to_one_at_a_time() -> None:
    parameter = nn.Parameter(torch.zeros(4, 2))
    table = TableGradient(parameter)
    first, second = table.lend(), table.lend()
    assert first.data_ptr() != second.data_ptr()
    table.add(first.fill_(1))
    table.add(second.fill_(2))
    assert parameter.grad is first and bool((first == 3).all())
    # What was added is free for the next who asks.
    assert table.lend() is second
    table.drop()
    assert parameter.grad is None
    table.add_rows(torch.tensor([2, 2]), torch.ones(2, 2))
    assert parameter.grad is first and parameter.grad.tolist() == [[0, 0], [0, 0], [2, 2], [0, 0]]


def test_a_drop_without_a_gradient_keeps_the_memory_that_there_is() -> None:
    parameter = nn.Parameter(torch.zeros(4, 2))
    table = TableGradient(parameter)
    table.add(mine := table.lend().zero_())
    table.drop()
    table.drop()
    assert table.lend() is mine
