"""Plain causal attention in blocks of queries against a softmax over whole rows in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llmkit.core.interfaces.attention import BLOCK, _causal


def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every query over all keys up to its own, each group of heads with its keys repeated."""
    repeated = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeated, dim=1) for x in (k, v))
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
    return (q @ k.mT * q.shape[3] ** -0.5).masked_fill(later, float("-inf")).softmax(dim=-1) @ v


@pytest.mark.parametrize("length", [1, BLOCK, BLOCK + 1, 300])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_blocks_of_queries_attend_as_whole_rows_do_and_hand_on_the_same_gradients(
    length: int, groups: int, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(length + groups)
    ours = [torch.randn(2, heads, length, 16, generator=generator).to(dtype).requires_grad_() for heads in (4, groups, groups)]
    exact = [x.detach().double().requires_grad_() for x in ours]
    slope = torch.randn(2, 4, length, 16, generator=generator).to(dtype)
    found, expected = _causal(ours[0], ours[1], ours[2], 16**-0.5), whole(*exact)
    found.backward(slope)
    expected.backward(slope.double())
    for mine, theirs in [(found, expected), *((x.grad, y.grad) for x, y in zip(ours, exact, strict=True))]:
        assert mine is not None and theirs is not None
        # A query with one key has a weight of 1 whatever they are, and gradients of 0 but for rounding.
        assert float((mine - theirs).detach().norm()) <= tolerance * max(float(theirs.norm()), 1.0)
