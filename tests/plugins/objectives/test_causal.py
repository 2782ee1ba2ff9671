"""The causal objective against torch's cross-entropy and transformers' loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from bigram import Bigram, D, V
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.core.site import Site
from llmkit.plugins.objectives.causal import Causal
from llmkit.plugins.objectives.components import CausalParams


@pytest.fixture
def objective() -> Causal:
    return Causal(CausalParams(), Site(d_model=D, width=D, n_layers=1, layer=0, max_seq_len=8, vocab_size=V))


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    stream = torch.randint(V, (3, 9), generator=generator)
    targets = stream[:, 1:].clone()
    targets[0, :3] = IGNORED
    targets[2] = IGNORED
    return Batch(stream[:, :-1], targets)


def test_total_over_count_is_the_mean_that_torch_and_transformers_compute(objective: Causal, batch: Batch) -> None:
    model = Bigram()
    loss = objective(model, batch)
    mean = loss.total / objective.count(batch)
    logits = model.head(model.features(batch)[0])
    assert objective.count(batch) == 13
    torch.testing.assert_close(mean, F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()))
    torch.testing.assert_close(mean, ForCausalLMLoss(logits, None, V, shift_labels=batch.targets))
    torch.testing.assert_close(loss.metrics["loss"], loss.total.detach())


def test_gradients_are_those_of_the_summed_cross_entropy(objective: Causal, batch: Batch) -> None:
    ours, theirs = Bigram(), Bigram()
    objective(ours, batch).total.backward()
    F.cross_entropy(theirs.head(theirs.features(batch)[0]).flatten(0, 1), batch.targets.flatten(), reduction="sum").backward()
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine.grad, reference.grad)


def test_two_halves_add_up_to_the_whole(objective: Causal, batch: Batch) -> None:
    model = Bigram()
    halves = [Batch(batch.ids[rows], batch.targets[rows]) for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(objective(model, half).total for half in halves), objective(model, batch).total)
    assert sum(objective.count(half) for half in halves) == objective.count(batch)


def test_weights_multiply_each_token_in_the_total_and_in_the_count(objective: Causal, batch: Batch) -> None:
    model = Bigram()
    weights = torch.rand(batch.targets.shape, generator=torch.Generator().manual_seed(2))
    weighted = batch._replace(weights=weights)
    each = F.cross_entropy(model.head(model.features(batch)[0]).flatten(0, 1), batch.targets.flatten(), reduction="none")
    torch.testing.assert_close(objective(model, weighted).total, (each * weights.flatten()).sum())
    torch.testing.assert_close(objective.count(weighted), weights[batch.targets != IGNORED].sum())


def test_auxiliary_losses_are_added_to_the_total_and_reported_beside_the_loss(objective: Causal, batch: Batch) -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    aux = Aux({"blocks.0.ffn.balance": weight * torch.arange(len(batch.ids))}, {"blocks.0.ffn.load": torch.ones(4)})
    plain, loss = objective(Bigram(), batch), objective(Bigram(aux=aux), batch)
    # Sequence r has the loss 3 r for each of its counted tokens.
    multiple = sum(row * int((targets != IGNORED).sum()) for row, targets in enumerate(batch.targets))
    torch.testing.assert_close(loss.total, plain.total + 3 * multiple)
    torch.testing.assert_close(loss.metrics, {"loss": plain.metrics["loss"], "blocks.0.ffn.balance": torch.tensor(3.0 * multiple)})
    assert not any(value.requires_grad for value in loss.metrics.values())
    loss.total.backward()
    assert weight.grad == multiple > 0
    assert torch.equal(loss.stats["blocks.0.ffn.load"], torch.ones(4))


def test_a_batch_without_a_counted_token_has_loss_and_gradients_zero(objective: Causal, batch: Batch) -> None:
    model = Bigram()
    loss = objective(model, batch._replace(targets=torch.full_like(batch.targets, IGNORED)))
    loss.total.backward()
    assert loss.total == 0
    assert all(torch.count_nonzero(parameter.grad) == 0 for parameter in model.parameters())


def test_bf16_logits_are_summed_in_fp32(objective: Causal, batch: Batch) -> None:
    model = Bigram(torch.bfloat16)
    loss = objective(model, batch)
    logits = model.head(model.features(batch)[0])
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, F.cross_entropy(logits.double().flatten(0, 1), batch.targets.flatten(), reduction="sum").float())


def test_a_model_that_knows_nothing_has_loss_ln_of_the_vocabulary(objective: Causal, batch: Batch) -> None:
    model = Bigram()
    nn.init.zeros_(model.head.weight)
    assert (objective(model, batch).total / objective.count(batch)).item() == pytest.approx(math.log(V), rel=1e-6)


def made(**params: float) -> Causal:
    return Causal(CausalParams(**params), Site(d_model=D, width=D, n_layers=1, layer=0, max_seq_len=8, vocab_size=V))


def test_label_smoothing_is_torchs_and_loss_stays_the_plain_cross_entropy(objective: Causal, batch: Batch) -> None:
    ours, theirs = Bigram(), Bigram()
    loss = made(label_smoothing=0.2)(ours, batch)
    logits = theirs.head(theirs.features(batch)[0]).flatten(0, 1)
    expected = F.cross_entropy(logits, batch.targets.flatten(), label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.metrics["loss"], objective(theirs, batch).total.detach())
    torch.testing.assert_close(sum(loss.metrics.values()), loss.total.detach())
    loss.total.backward()
    expected.backward()
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_z_loss_is_the_squared_log_of_the_partition_function_of_every_counted_token(batch: Batch, dtype: torch.dtype) -> None:
    ours, theirs = Bigram(dtype), Bigram(dtype)
    weighted = batch._replace(weights=torch.rand(batch.targets.shape, generator=torch.Generator().manual_seed(2)))
    loss = made(z_loss=0.01)(ours, weighted)
    logits = theirs.head(theirs.features(batch)[0]).float()
    counts = (batch.targets != IGNORED) * weighted.weights
    z = 0.01 * (torch.logsumexp(logits, dim=-1).square() * counts).sum()
    each = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none").view_as(counts)
    torch.testing.assert_close(loss.metrics["z_loss"], z.detach())
    torch.testing.assert_close(loss.total, z + (each * counts).sum())
    loss.total.backward()
    (z + (each * counts).sum()).backward()
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        # In bf16 the gradient of the logits is the sum of two that were rounded: 2^-8 of the largest each.
        rounding = 2 * 2**-8 * float(reference.grad.abs().max()) if dtype is torch.bfloat16 else 1e-6
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-5, atol=rounding)


def test_smoothing_and_z_loss_together_compile_to_one_graph_without_asking_a_tensor(batch: Batch) -> None:
    model, objective = Bigram(), made(label_smoothing=0.1, z_loss=1e-3)
    compiled = torch.compile(lambda one: objective(model, one).total, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(batch), objective(model, batch).total)
