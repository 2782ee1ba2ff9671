"""Laws of feed-forward networks besides those of a decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.ffn import Aux
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.decoder import module_of
from llmkit.testing.model import same
from llmkit.testing.subject import WIDTH, Subject

UNREACHED = 1e-6
"""A gradient this small is rounding: where drawn values meet 64 tokens, the others are a thousand times as much."""


def every_token_by_itself(subject: Subject) -> None:
    """A token has the result that it has alone, wherever it stands."""
    ffn = module_of(subject)
    x = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    whole, _ = _run(ffn, x)
    if whole.shape != x.shape:
        raise LawBroken(f"{tuple(x.shape)} becomes {tuple(whole.shape)}")
    for row in range(2):
        for place in range(4):
            alone, _ = _run(ffn, x[row : row + 1, place : place + 1])
            same(alone[0, 0], whole[row, place], f"token {place} of row {row} of (2, 4, {WIDTH}) differs from itself alone")


def auxiliary_losses_are_of_one_sequence(subject: Subject) -> None:
    """Auxiliary losses have a value for each sequence, which is the one it has alone, so that accumulation equals the big batch."""
    ffn = module_of(subject)
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    _, aux = _run(ffn, x)
    for name, loss in aux.losses.items():
        if loss.shape != (3,):
            raise LawBroken(f"the loss {name!r} of 3 sequences has shape {tuple(loss.shape)}; it must be (3,)")
        for row in range(3):
            alone = _run(ffn, x[row : row + 1])[1].losses[name]
            same(alone[0], loss[row], f"the loss {name!r} of sequence {row} of 3 is not what it is alone")


def statistics_add_up(subject: Subject) -> None:
    """Statistics are sums over tokens: those of a batch are the sum of those of its rows, so that accumulation equals the big batch."""
    ffn = module_of(subject)
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    _, aux = _run(ffn, x)
    rows = [_run(ffn, x[row : row + 1])[1].stats for row in range(3)]
    for name, stat in aux.stats.items():
        summed = torch.stack([stats[name] for stats in rows]).sum(dim=0)
        same(stat, summed, f"the statistic {name!r} of 3 sequences is not the sum of what it is for each alone")


def gradient_reaches_every_parameter(subject: Subject) -> None:
    """The output alone has a gradient for every parameter: a router that only its auxiliary losses reach learns nothing of the task."""
    ffn = module_of(subject)
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(2, 32, WIDTH, generator=generator) for _ in range(2))
    found = ffn(x)
    y = found[0] if isinstance(found, tuple) else found
    parameters = {name: parameter for name, parameter in ffn.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad((y * weight).sum(), list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None or not bool(gradient.abs().max() > UNREACHED):
            raise LawBroken(f"no gradient of the output reaches {name}, over 64 tokens")


def _run(ffn: nn.Module, x: Tensor) -> tuple[Tensor, Aux]:
    with torch.no_grad():
        found = ffn(x)
    return found if isinstance(found, tuple) else (found, Aux({}, {}))


LAWS = (
    Law(every_token_by_itself),
    Law(auxiliary_losses_are_of_one_sequence),
    Law(statistics_add_up),
    Law(gradient_reaches_every_parameter),
)
