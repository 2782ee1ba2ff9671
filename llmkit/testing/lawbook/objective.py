"""Laws of objectives, on the small model."""

from __future__ import annotations

import torch
from torch import Tensor

from llmkit.core.component import Chosen
from llmkit.core.interfaces.objective import IGNORED, Batch, Loss, Objective
from llmkit.core.site import Site
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.model import finite, same, tokens
from llmkit.testing.subject import LAYERS, LENGTH, WIDTH, Subject

ROWS, TOKENS = 3, 6


def total_is_a_sum(subject: Subject) -> None:
    """The total, the metrics and the count of a batch are the sums of those of its rows: accumulation equals the big batch."""
    objective, batch = _objective(subject), _batch()
    whole, count = _run(subject, objective, batch), objective.count(batch)
    parts = [_run(subject, objective, _rows(batch, row)) for row in range(ROWS)]
    same(whole.total, torch.stack([part.total for part in parts]).sum(), f"the total of {ROWS} rows is not the sum of each")
    for name, value in whole.metrics.items():
        same(value, torch.stack([part.metrics[name] for part in parts]).sum(), f"the metric {name!r} of {ROWS} rows is not the sum of each")
    counts = torch.stack([objective.count(_rows(batch, row)).float() for row in range(ROWS)]).sum()
    same(count.float(), counts, f"the count of {ROWS} rows is not the sum of each")


def total_is_a_scalar_in_fp32(subject: Subject) -> None:
    """The total is a finite fp32 scalar that has a gradient; the metrics have `loss` and are detached scalars."""
    loss = _objective(subject)(subject.model, _batch())
    if loss.total.shape != () or loss.total.dtype is not torch.float32:
        raise LawBroken(f"the total has shape {tuple(loss.total.shape)} and dtype {loss.total.dtype}")
    finite(loss.total, "the total is not finite")
    if not loss.total.requires_grad:
        raise LawBroken("the total has no gradient")
    if "loss" not in loss.metrics:
        raise LawBroken("the metrics have no `loss`, which is reported as train_loss")
    for name, value in loss.metrics.items():
        if value.shape != () or value.requires_grad:
            raise LawBroken(f"the metric {name!r} is no detached scalar")


def a_row_that_counts_nothing_adds_nothing(subject: Subject) -> None:
    """A row whose targets are all ignored adds 0 to the total and to the count, and its gradient is finite."""
    objective, batch = _objective(subject), _rows(_batch(), 0)
    silent = batch._replace(targets=torch.full_like(batch.targets, IGNORED))
    both = Batch(torch.cat([batch.ids, silent.ids]), torch.cat([batch.targets, silent.targets]))
    expected = _run(subject, objective, batch)
    same(_run(subject, objective, both).total, expected.total, "a row of targets that are all -100 changes the total")
    same(objective.count(both).float(), objective.count(batch).float(), "a row of targets that are all -100 changes the count")
    total = objective(subject.model, silent).total
    finite(total, "a batch of targets that are all -100 has no finite total")
    gradients = torch.autograd.grad(total, list(subject.model.parameters()), allow_unused=True)
    for gradient in gradients:
        if gradient is not None:
            finite(gradient, "a batch of targets that are all -100 has a gradient that is not finite")


def weights_weigh(subject: Subject) -> None:
    """Weights of 1 are as none, and a weight of 0 is as a target that is ignored."""
    objective, batch = _objective(subject), _rows(_batch(), 0)
    plain = _run(subject, objective, batch).total
    ones = torch.ones_like(batch.targets, dtype=torch.float32)
    same(_run(subject, objective, batch._replace(weights=ones)).total, plain, "weights of 1 change the total")
    weights, targets = ones.clone(), batch.targets.clone()
    weights[0, 2], targets[0, 2] = 0, IGNORED
    ignored, weighed = batch._replace(targets=targets), batch._replace(weights=weights)
    expected = _run(subject, objective, ignored).total
    same(_run(subject, objective, weighed).total, expected, "a weight of 0 at token 2 is not as a target of -100")
    same(objective.count(weighed).float(), objective.count(ignored).float(), "a weight of 0 at token 2 counts")


def _objective(subject: Subject) -> Objective:
    site = Site(WIDTH, WIDTH, LAYERS, 0, LENGTH, subject.spec().vocab_size, address="train.objective")
    objective: Objective = Chosen(subject.component, subject.params).make(site)
    return objective


def _run(subject: Subject, objective: Objective, batch: Batch) -> Loss:
    with torch.no_grad():
        loss: Loss = objective(subject.model, batch)
    return loss


def _batch() -> Batch:
    ids = tokens(ROWS, TOKENS + 1)
    targets: Tensor = ids[:, 1:].clone()
    targets[1, :2] = IGNORED
    return Batch(ids[:, :-1], targets)


def _rows(batch: Batch, row: int) -> Batch:
    return Batch(batch.ids[row : row + 1], batch.targets[row : row + 1])


LAWS = (Law(total_is_a_scalar_in_fp32), Law(total_is_a_sum), Law(a_row_that_counts_nothing_adds_nothing), Law(weights_weigh))
