"""The kernel of head and cross-entropy against fp64 and all logits at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llmkit.core.interfaces import kernel
from llmkit.core.interfaces.objective import IGNORED
from llmkit.core.interfaces.table import TableGradient
from llmkit.model.head import Head
from llmkit.plugins.objectives import in_chunks
from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.objectives.cross_entropy import CrossEntropy

refused = kernel.refused(in_chunks.SOURCE, "avx512_bf16")
pytestmark = pytest.mark.skipif(refused is not None, reason=f"no kernel: {refused}")

EPSILON = {torch.float32: 1e-5, torch.bfloat16: 2**-8}
"""Relative to a gradient: in fp32 of sums of up to 500 words whose logits are up to a hundred."""


def inputs(rows: int, width: int, words: int, dtype: torch.dtype, scale: float) -> tuple[Head, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows + words)
    head = Head(width, words)
    head.weight.data = torch.randn(words, width, generator=generator).mul_(scale / width**0.5).to(dtype)
    h = torch.randn(rows, width, generator=generator).to(dtype)
    targets = torch.randint(words, (rows,), generator=generator)
    targets[1::3] = IGNORED
    counts = torch.rand(rows, generator=generator) * (targets != IGNORED)
    return head, h, targets, counts


def exact(head: Head, h: Tensor, targets: Tensor, counts: Tensor, s: float, z: float) -> tuple[list[Tensor], Tensor, Tensor]:
    """The terms and the gradients of h and of W, in fp64, as the objective's docstring has them."""
    x, weight = (one.detach().double().requires_grad_() for one in (h, head.weight))
    logits = x @ weight.t()
    log_z = logits.logsumexp(dim=-1)
    nats = torch.where(targets == IGNORED, 0, log_z - logits.gather(-1, targets.clamp(min=0)[:, None])[:, 0])
    weighed = [nats, s * (log_z - logits.mean(dim=-1) - nats), z * log_z.square()]
    terms = [(part * counts.double()).sum() for part in weighed]
    of_x, of_weight = torch.autograd.grad(torch.stack(terms).sum(), [x, weight])
    return [term.detach() for term in terms], of_x, of_weight


def called(head: Head, h: Tensor, targets: Tensor, counts: Tensor, s: float, z: float) -> tuple[Tensor, Tensor, Tensor]:
    of_h, of_weight = torch.full_like(h, torch.nan), torch.full_like(head.weight, torch.nan, dtype=torch.float32)
    terms = torch.ops.llmkit.head_cross_entropy(h, head.weight.detach(), targets, counts, s, z, of_h, of_weight, False)
    return terms, of_h, of_weight


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 330),
    width=st.sampled_from([2, 6, 32, 70]),
    words=st.sampled_from([1, 2, 11, 127, 128, 129, 500]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    s=st.sampled_from([0.0, 0.1]),
    z=st.sampled_from([0.0, 0.01]),
)
def test_terms_and_gradients_are_those_of_fp64(
    rows: int, width: int, words: int, dtype: torch.dtype, scale: float, s: float, z: float
) -> None:
    given_in = inputs(rows, width, words, dtype, scale)
    terms, of_h, of_weight = called(*given_in, s, z)
    expected, of_x, of_w = exact(*given_in, s, z)
    # The loss is of fp32 logits in bf16 too: what is rounded are the gradients of the logits, and the gradient of h at its end.
    largest = max(1.0, float(sum(value.abs() for value in expected)))
    torch.testing.assert_close(terms.double(), torch.stack(expected), rtol=1e-5, atol=2e-6 * largest)
    for mine, theirs in ((of_h, of_x), (of_weight, of_w)):
        assert mine.isfinite().all()
        # Of one word the gradient is 0, and what is left of fp32's rounding is no part of it.
        assert float((mine - theirs).norm()) <= 4 * EPSILON[dtype] * float(theirs.norm()) + 1e-6 * rows * max(scale, 1)


def test_adding_begins_with_what_is_there() -> None:
    head, h, targets, counts = inputs(70, 32, 300, torch.bfloat16, 1.0)
    _, _, alone = called(head, h, targets, counts, 0.0, 0.0)
    onto = torch.ones_like(alone)
    torch.ops.llmkit.head_cross_entropy(h, head.weight.detach(), targets, counts, 0.0, 0.0, None, onto, True)
    torch.testing.assert_close(onto, alone + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(dtype: torch.dtype, broken: float) -> None:
    head, h, targets, counts = inputs(70, 32, 300, dtype, 1.0)
    h[3, 5], targets[3], counts[3] = broken, 7, 1.0
    terms, of_h, of_weight = called(head, h, targets, counts, 0.0, 0.0)
    assert not terms[0].isfinite() and not of_h[3].isfinite().all() and not of_weight.isfinite().all()


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    head, h = Head(2, 400), torch.ones(64, 2)
    head.weight.data = torch.linspace(-500, 500, 400)[:, None].expand(400, 2).contiguous()
    targets = torch.full((64,), 399)
    terms, of_h, of_weight = called(head, h, targets, torch.ones(64), 0.0, 0.0)
    expected, of_x, of_w = exact(head, h, targets, torch.ones(64), 0.0, 0.0)
    torch.testing.assert_close(terms[0].double(), expected[0], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(of_weight.double(), of_w, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_h.double(), of_x, rtol=1e-3, atol=1e-6)


@pytest.fixture
def compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_loss_goes_by_the_kernel_in_chunks_and_an_eager_one_does_not(
    monkeypatch: pytest.MonkeyPatch, compiled: None, dtype: torch.dtype
) -> None:
    head, h, targets, counts = inputs(300, 32, 500, dtype, 1.0)
    monkeypatch.setattr(in_chunks, "KERNEL", 128 * 500)
    loss = CrossEntropy(CausalParams(label_smoothing=0.1, z_loss=0.01), 500)
    assert in_chunks._way(loss.of_rows, head, h) is in_chunks._OfProduct
    loss.of_rows.compile()
    assert in_chunks._way(loss.of_rows, head, h) is in_chunks._ByKernel
    h.requires_grad_()
    total, terms = loss(head, h, targets, counts)
    assert list(terms) == ["loss", "label_smoothing", "z_loss"]
    ours = torch.autograd.grad(total * 0.5, [h, head.weight])
    expected, of_x, of_w = exact(head, h, targets, counts, 0.1, 0.01)
    torch.testing.assert_close(total.double(), torch.stack(expected).sum(), rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(ours, (of_x, of_w), strict=True):
        assert mine.dtype is dtype
        assert float((mine - theirs / 2).norm()) <= 0.5 * EPSILON[dtype] * 4 * float(theirs.norm()) + 1e-5


def test_a_row_of_minus_infinities_counts_for_nothing() -> None:
    head, h = Head(2, 260), torch.ones(3, 2)
    head.weight.data[:130] = -3e38
    targets, counts = torch.tensor([200, 131, 259]), torch.ones(3)
    terms, of_h, of_weight = called(head, h, targets, counts, 0.0, 0.0)
    lower = Head(2, 130)
    lower.weight.data = head.weight.data[130:].clone()
    expected, of_x, of_w = exact(lower, h, targets - 130, counts, 0.0, 0.0)
    torch.testing.assert_close(terms[0].double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(of_h.double(), of_x, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_weight[130:].double(), of_w, rtol=1e-4, atol=1e-6)
    assert bool((of_weight[:130] == 0).all())


@pytest.mark.parametrize("target", [300, -1])
def test_a_target_that_is_no_word_is_refused_as_it_is_without_the_kernel(target: int, compiled: None) -> None:
    head, h, targets, counts = inputs(70, 32, 300, torch.float32, 1.0)
    targets[5] = target
    for by_kernel in (False, True):
        loss = CrossEntropy(CausalParams(), 300)
        if by_kernel:
            loss.of_rows.compile()
        with pytest.raises(IndexError, match=rf"Target {target} is out of bounds"):
            loss(head, h, targets, counts)


def test_targets_and_counts_need_not_lie_together_in_memory(compiled: None) -> None:
    head, h, targets, counts = inputs(64, 32, 300, torch.float32, 1.0)
    h, targets = h.view(8, 8, 32), targets.view(8, 8)
    counts = torch.ones(()).expand(8, 1)
    totals = []
    for by_kernel in (False, True):
        loss = CrossEntropy(CausalParams(), 300)
        if by_kernel:
            loss.of_rows.compile()
        totals.append(loss(head, h[:, -1:], targets[:, -1:], counts)[0])
    torch.testing.assert_close(*totals)


def test_twice_the_same_gives_the_same_bits() -> None:
    given_in = inputs(300, 32, 500, torch.bfloat16, 1.0)
    for first, second in zip(called(*given_in, 0.1, 0.01), called(*given_in, 0.1, 0.01), strict=True):
        assert torch.equal(first, second)


def test_where_its_products_cannot_be_made_the_loss_goes_without_it_and_says_why() -> None:
    program = """
import torch, warnings
from llmkit.model.head import Head
from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.objectives.cross_entropy import CrossEntropy
from llmkit.plugins.objectives import in_chunks
loss = CrossEntropy(CausalParams(), 300)
loss.of_rows.compile()
with warnings.catch_warnings(record=True) as told:
    assert in_chunks._way(loss.of_rows, Head(32, 300), torch.ones(4, 32)) is in_chunks._OfProduct
    print(len(told), told[0].message)
"""
    surroundings = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    told = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, check=True).stdout
    assert told.startswith("1 the loss is computed without its kernel, more slowly:")


def test_a_head_that_is_frozen_or_hidden_states_that_are_get_nothing(compiled: None) -> None:
    head, h, targets, counts = inputs(70, 32, 300, torch.float32, 1.0)
    loss = CrossEntropy(CausalParams(), 300)
    loss.of_rows.compile()
    _, of_x, of_w = exact(head, h, targets, counts, 0.0, 0.0)
    total, _ = loss(head, h, targets, counts)
    total.backward()
    torch.testing.assert_close(head.weight.grad.double(), of_w, rtol=1e-4, atol=1e-6)
    assert h.grad is None
    head.requires_grad_(False).weight.grad = None
    total, _ = loss(head, h.requires_grad_(), targets, counts)
    total.backward()
    torch.testing.assert_close(h.grad.double(), of_x, rtol=1e-4, atol=1e-6)
    assert head.weight.grad is None


def test_the_gradient_of_a_bf16_head_with_a_master_is_never_rounded_to_bf16(compiled: None) -> None:
    head, h, targets, counts = inputs(300, 32, 500, torch.bfloat16, 1.0)
    master = nn.Parameter(head.weight.detach().float())
    head.weight.table_gradient = TableGradient(master)  # type: ignore[attr-defined]
    loss = CrossEntropy(CausalParams(), 500)
    loss.of_rows.compile()
    for _ in range(2):
        loss(head, h, targets, counts)[0].backward()
    _, _, of_weight = called(head, h, targets, counts, 0.0, 0.0)
    assert head.weight.grad is None
    assert torch.equal(master.grad, 2 * of_weight)


def test_the_operator_says_its_schema_as_torch_wants() -> None:
    head, h, targets, counts = inputs(8, 4, 5, torch.float32, 1.0)
    arguments = (h, head.weight.detach(), targets, counts, 0.0, 0.0, torch.empty_like(h), torch.empty(5, 4), False)
    torch.library.opcheck(torch.ops.llmkit.head_cross_entropy.default, arguments, test_utils="test_schema")
    of = torch.ops.llmkit.head_cross_entropy
    for index, wrong, says in (
        (0, h[:, :3], "even D"),
        (1, head.weight.detach()[:, :2], "weight"),
        (2, targets[:1], "targets"),
        (3, counts[:1], "counts"),
        (3, counts.double(), "counts"),
        (6, torch.empty(2, 4), "gradient of x"),
        (7, torch.empty(5, 2), "gradient of the weight"),
    ):
        with pytest.raises(RuntimeError, match=says):
            of(*arguments[:index], wrong, *arguments[index + 1 :])
