"""The cross-entropy in chunks against torch's autograd over all logits at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bigram import D, V
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from llmkit.core.interfaces.objective import IGNORED
from llmkit.model.head import Head
from llmkit.plugins.objectives import in_chunks
from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.objectives.cross_entropy import CrossEntropy

B, T = 3, 7


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(B, T, D, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(V, (B, T), generator=generator)
    targets[0, :2] = IGNORED
    counts = torch.rand(B, T, generator=generator) * (targets != IGNORED)
    return h, targets, counts


def reference(head: nn.Module, h: Tensor, targets: Tensor, counts: Tensor, params: CausalParams) -> Tensor:
    logits = head(h).flatten(0, 1).float()
    each = F.cross_entropy(logits, targets.flatten(), reduction="none", label_smoothing=params.label_smoothing)
    return ((each + params.z_loss * logits.logsumexp(dim=-1).square()) * counts.flatten()).sum()


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, B * T + 2),
    smoothing=st.sampled_from([0.0, 0.1]),
    z_loss=st.sampled_from([0.0, 0.01]),
    softcap=st.sampled_from([None, 2.0]),
    scale=st.sampled_from([1.0, 1.5]),
    upstream=st.sampled_from([1.0, 0.25]),
)
def test_chunks_of_any_size_give_the_loss_and_the_gradients_of_all_logits_at_once(
    rows: int, smoothing: float, z_loss: float, softcap: float | None, scale: float, upstream: float
) -> None:
    torch.manual_seed(1)
    head, params = Head(D, V, scale=scale, softcap=softcap), CausalParams(z_loss=z_loss, label_smoothing=smoothing)
    h, targets, counts = inputs()
    before = in_chunks.CHUNK_FP32
    in_chunks.CHUNK_FP32 = rows * V
    try:
        total, terms = CrossEntropy(params, V)(head, h, targets, counts)
    finally:
        in_chunks.CHUNK_FP32 = before
    expected = reference(head, h, targets, counts, params)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(sum(terms.values()), expected.detach())
    ours = torch.autograd.grad(total * upstream, [h, head.weight])
    theirs = torch.autograd.grad(expected * upstream, [h, head.weight])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_gradients_of_a_bf16_head_add_up_in_fp32_over_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    head = Head(D, V).to(torch.bfloat16)
    h, targets, counts = inputs(torch.bfloat16)
    monkeypatch.setattr(in_chunks, "CHUNK", V)
    total, _ = CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    ours, _ = torch.autograd.grad(total, [head.weight, h])
    exact = nn.Linear(D, V, bias=False, dtype=torch.float64)
    exact.weight.data.copy_(head.weight)
    (theirs,) = torch.autograd.grad(reference(exact, h.detach().double(), targets, counts, CausalParams()), [exact.weight])
    assert ours.dtype is torch.bfloat16
    # One rounding of each chunk's product and one at the end, whatever the number of chunks.
    assert (ours - theirs).abs().max() <= 2**-7 * theirs.abs().max()


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any result has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return result


@pytest.mark.parametrize("rows", [1, 4])
def test_no_more_logits_exist_at_once_than_a_chunk_has(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    vocabulary = 512
    head = Head(D, vocabulary)
    h, targets, counts = inputs()
    monkeypatch.setattr(in_chunks, "CHUNK_FP32", rows * vocabulary)
    with LargestTensor() as seen:
        CrossEntropy(CausalParams(z_loss=0.1, label_smoothing=0.1), vocabulary)(head, h, targets, counts)[0].backward()
    assert seen.elements == max(rows, D) * vocabulary < B * T * vocabulary


def test_the_gradient_of_a_head_that_is_one_product_exists_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    head, (h, targets, counts) = Head(D, V), inputs()
    monkeypatch.setattr(in_chunks, "CHUNK_FP32", 4 * V)

    class AsLargeAsTheHead(TorchDispatchMode):
        made = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.shape == head.weight.shape and not func._schema.is_mutable:
                self.made += 1
            return result

    with AsLargeAsTheHead() as seen:
        CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    assert seen.made == 1


def test_a_hook_on_the_head_is_called_and_its_change_is_in_the_gradient() -> None:
    torch.manual_seed(1)
    head, (h, targets, counts) = Head(D, V), inputs()
    head.register_forward_hook(lambda _, __, logits: 2 * logits)
    total, _ = CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    expected = reference(head, h, targets, counts, CausalParams())
    ours, theirs = (torch.autograd.grad(value, [h, head.weight]) for value in (total, expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_a_head_that_is_frozen_gets_no_gradient_and_hands_on_that_of_the_hidden_states() -> None:
    head = Head(D, V).requires_grad_(False)
    h, targets, counts = inputs()
    total, _ = CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    total.backward()
    (expected,) = torch.autograd.grad(reference(head, h, targets, counts, CausalParams()), [h])
    torch.testing.assert_close(h.grad, expected)
    assert head.weight.grad is None


def test_without_gradients_it_is_the_loss_alone() -> None:
    head = Head(D, V)
    h, targets, counts = inputs()
    with torch.no_grad():
        total, _ = CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    assert not total.requires_grad
    torch.testing.assert_close(total, reference(head, h, targets, counts, CausalParams()).detach())


def test_a_second_backward_pass_is_refused_because_the_first_gave_the_gradients_away() -> None:
    head = Head(D, V)
    h, targets, counts = inputs()
    total, _ = CrossEntropy(CausalParams(), V)(head, h, targets, counts)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the forward pass again"):
        total.backward()
