"""Multi-token prediction against the loss written out token by token."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bigram import Bigram, D, V
from safetensors.torch import load_file
from torch import Tensor

import llmkit
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.core.site import Site
from llmkit.plugins.objectives.causal import Causal
from llmkit.plugins.objectives.components import CausalParams, MultiTokenParams
from llmkit.plugins.objectives.multi_token import MultiToken, ahead
from llmkit.train.loop import train

T = 8
SITE = Site(d_model=D, width=D, n_layers=1, layer=0, max_seq_len=T, vocab_size=V)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    stream = torch.randint(V, (3, T + 1), generator=generator)
    targets = stream[:, 1:].clone()
    targets[0, :3] = IGNORED
    targets[2] = IGNORED
    return Batch(stream[:, :-1], targets, weights=torch.rand(3, T, generator=generator))


def packed(batch: Batch) -> Batch:
    """Documents of 3, 4 and 1 tokens in the first row, of 5 and 3 in the second; the third begins with two tokens of padding."""
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 3], [0, 0, 0, 0, 0, 1, 1, 1], [0] * T])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0], [0, 1, 2, 3, 4, 0, 1, 2], [-1, -1, 0, 1, 2, 3, 4, 5]])
    targets = batch.targets.clone()
    targets[2, 2:] = torch.arange(T - 2)
    return batch._replace(segments=segments, positions=positions, targets=targets)


def made(n_future: int, **params: float) -> MultiToken:
    torch.manual_seed(3)
    return MultiToken(MultiTokenParams(n_future=n_future, **params), SITE)


def written(model: Bigram, objective: MultiToken, batch: Batch, offset: int) -> Tensor:
    """The loss of one offset, token by token."""
    h, _ = model.features(batch)
    total = torch.zeros(())
    for row in range(h.shape[0]):
        for t in range(T - offset):
            target = int(batch.targets[row, t + offset])
            if target == IGNORED or (batch.positions is not None and batch.positions[row, t] < 0):
                continue
            if batch.segments is not None and batch.segments[row, t] != batch.segments[row, t + offset]:
                continue
            state = h[row, t]
            if offset:
                state = state + F.silu(objective.ahead[offset - 1].projection.weight @ state)
            weight = 1.0 if batch.weights is None else batch.weights[row, t + offset]
            total = total - weight * torch.log_softmax(model.head(state), dim=-1)[target]
    return total


@pytest.mark.parametrize("documents", [False, True])
def test_the_total_is_the_next_tokens_loss_and_the_weighted_mean_of_the_others_never_across_documents_or_the_end(batch, documents):
    batch = packed(batch) if documents else batch
    model, objective = Bigram(), made(3, weight=0.6)
    losses = [written(model, objective, batch, offset) for offset in range(4)]
    loss = objective(model, batch)
    torch.testing.assert_close(loss.total, losses[0] + 0.2 * (losses[1] + losses[2] + losses[3]))
    expected = {"loss": losses[0], "ahead_1": losses[1], "ahead_2": losses[2], "ahead_3": losses[3]}
    torch.testing.assert_close(loss.metrics, {name: value.detach() for name, value in expected.items()})


def test_a_document_is_read_as_if_it_were_alone(batch: Batch) -> None:
    batch = packed(batch)
    model, objective = Bigram(), made(2)
    parts = [(0, 0, 3), (0, 3, 7), (0, 7, 8), (1, 0, 5), (1, 5, 8), (2, 2, 8)]
    alone = [
        Batch(batch.ids[row, a:b][None], batch.targets[row, a:b][None], weights=batch.weights[row, a:b][None])  # type: ignore[index]
        for row, a, b in parts
    ]
    whole = objective(model, batch)
    for name, value in whole.metrics.items():
        torch.testing.assert_close(sum(objective(model, one).metrics[name] for one in alone), value, msg=name)
    torch.testing.assert_close(sum(objective(model, one).total for one in alone), whole.total)


def test_targets_further_on_are_the_sequences_own_tokens() -> None:
    ids = torch.arange(10)[None]
    batch = Batch(ids[:, :-1], ids[:, 1:])
    for offset in (1, 2, 5):
        targets, counts = ahead(batch, offset)
        assert targets[0].tolist() == [*range(offset + 1, 10), *[IGNORED] * offset]
        assert counts[0].tolist() == [1] * (9 - offset) + [0] * offset


def test_a_sequence_shorter_than_the_offset_counts_nothing_there(batch: Batch) -> None:
    short = Batch(batch.ids[:, :2], batch.targets[:, :2])
    loss = made(4)(Bigram(), short)
    assert loss.metrics["ahead_2"] == loss.metrics["ahead_3"] == loss.metrics["ahead_4"] == 0
    assert torch.isfinite(loss.total)


def test_the_loss_and_the_count_are_those_of_the_causal_objective(batch: Batch) -> None:
    aux = Aux({"blocks.0.ffn.balance": torch.arange(3.0)}, {"blocks.0.ffn.load": torch.ones(4)})
    causal, several = Causal(CausalParams(), SITE), made(2)
    expected, loss = causal(Bigram(aux=aux), batch), several(Bigram(aux=aux), batch)
    for name, value in expected.metrics.items():
        assert torch.equal(loss.metrics[name], value)
    assert torch.equal(several.count(batch), causal.count(batch))
    assert loss.stats is aux.stats


def test_smoothing_and_z_loss_are_in_every_offset(batch: Batch) -> None:
    model, objective = Bigram(), made(1, weight=0.5, label_smoothing=0.2, z_loss=0.01)
    plain = batch._replace(weights=None)
    h, _ = model.features(plain)
    total = torch.zeros(())
    further, _ = ahead(plain, 1)
    for state, targets, factor in ((h, plain.targets, 1.0), (objective.ahead[0](h), further, 0.5)):
        logits = model.head(state)
        smoothed = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.2, reduction="sum")
        z = (torch.logsumexp(logits, -1).square() * (targets != IGNORED)).sum()
        total = total + factor * (smoothed + 0.01 * z)
    torch.testing.assert_close(objective(model, plain).total, total)


def test_it_compiles_to_one_graph_without_asking_a_tensor(batch: Batch) -> None:
    batch = packed(batch)
    model, objective = Bigram(), made(2)
    compiled = torch.compile(lambda one: objective(model, one).total, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(batch), objective(model, batch).total)


def test_in_a_run_its_layers_are_trained_and_saved_beside_the_model_which_stays_what_it_is(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{index} {'abcabd' * 12}" for index in range(60)))
    document = {
        "tokenizer": "bytes",
        "model": {
            "d_model": 16,
            "n_layers": 1,
            "max_seq_len": 16,
            "position": "rope",
            "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": "swiglu", "norm": "rmsnorm"},
        },
        "data": {
            "source": {"type": "text", "paths": [str(text)], "split": "paragraph"},
            "mask_documents": True,
            "cache": str(tmp_path / "cache"),
        },
        "train": {"steps": 6, "batch_size": 4, "optimizer": {"type": "adamw", "lr": 1e-2}, "precision": "fp32"},
    }
    spec = llmkit.load_spec(document, overrides=["train.objective={type: multi_token, n_future: 2}", "name=several"])
    result = train(spec, out=tmp_path / "several")
    saved = load_file(tmp_path / "several" / "checkpoints" / "step-00000006" / "model.safetensors")
    layers = {name: value for name, value in saved.items() if name.startswith("objective.")}
    assert sorted(layers) == ["objective.ahead.0.projection.weight", "objective.ahead.1.projection.weight"]
    # They started at zero.
    assert all(torch.count_nonzero(value) for value in layers.values())
    assert saved.keys() - layers.keys() == llmkit.build(spec).state_dict().keys()
    train(llmkit.load_spec(document, overrides=["name=one"]), out=tmp_path / "one")
    first = [json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[0])["loss"] for run in ("several", "one")]
    # The same weights at the start, and the loss that is told is the next token's alone.
    assert first[0] == first[1]
    assert math.isfinite(result["val_loss"])
