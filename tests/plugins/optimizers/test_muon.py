"""Muon against torch's own for matrices, torch's AdamW for all else, and the singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from llmkit.core.interfaces.optimizer import NamedParameter, Role
from llmkit.plugins.optimizers.components import MuonParams
from llmkit.plugins.optimizers.muon import Muon, newton_schulz, scale

SHAPES: dict[str, tuple[tuple[int, ...], Role]] = {
    "wide": ((12, 40), "matrix"),
    "tall": ((40, 12), "matrix"),
    "square": ((16, 16), "matrix"),
    "table": ((30, 16), "embedding"),
    "head": ((30, 16), "head"),
    "scale": ((16,), "vector"),
}
MATRICES = ("wide", "tall", "square")


def parameters() -> list[NamedParameter]:
    generator = torch.Generator().manual_seed(0)
    return [NamedParameter(name, nn.Parameter(torch.randn(shape, generator=generator)), role) for name, (shape, role) in SHAPES.items()]


def train(optimizers: Sequence[torch.optim.Optimizer], named: Sequence[NamedParameter], steps: range) -> None:
    for step in steps:
        for index, item in enumerate(named):
            generator = torch.Generator().manual_seed(100 * step + index)
            item.parameter.grad = torch.randn(item.parameter.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize(("scaling", "theirs"), [("rms", "match_rms_adamw"), ("spectral", "original")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_a_trajectory_equals_torchs_muon_and_torchs_adamw(scaling: str, theirs: str, nesterov: bool) -> None:
    params = MuonParams(lr=0.02, adamw_lr=0.005, momentum=0.9, nesterov=nesterov, scaling=scaling, weight_decay=0.3)  # type: ignore[arg-type]
    ours, reference = parameters(), parameters()
    train([Muon(params).build(ours)], ours, range(10))
    of = {item.name: item.parameter for item in reference}
    muon = torch.optim.Muon(
        [of[name] for name in MATRICES], lr=0.02, weight_decay=0.3, momentum=0.9, nesterov=nesterov, adjust_lr_fn=theirs
    )
    groups = [{"params": [of["head"]], "weight_decay": 0.3}, {"params": [of["table"], of["scale"]], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.005, betas=(0.9, 0.95))
    train([muon, adamw], reference, range(10))
    for item in ours:
        torch.testing.assert_close(item.parameter, of[item.name], rtol=1e-5, atol=1e-6, msg=item.name)


@pytest.mark.parametrize("shape", [(64, 64), (24, 96), (96, 24), (3, 24, 40)])
def test_newton_schulz_keeps_the_singular_vectors_and_brings_the_singular_values_near_one(shape: tuple[int, ...]) -> None:
    # The values lie between 0.05 and 1, of random singular vectors: no Gaussian's smallest, of which five iterations are too few.
    generator = torch.Generator().manual_seed(1)
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    values = torch.linspace(1, 0.05, min(shape[-2:])).expand((*u.shape[:-2], min(shape[-2:])))
    found = newton_schulz((u * values[..., None, :]) @ vh, 5).float()
    inside = u.mT @ found @ vh.mT
    diagonal = torch.diagonal(inside, dim1=-2, dim2=-1)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.25
    assert (inside - torch.diag_embed(diagonal)).abs().max() < 0.05


def test_of_stacked_experts_each_is_stepped_as_a_matrix_of_its_own() -> None:
    params = MuonParams(lr=0.02, weight_decay=0.1)
    start = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(2))
    stacked = [NamedParameter("experts", nn.Parameter(start.clone()), "matrix")]
    alone = [NamedParameter(f"expert.{index}", nn.Parameter(expert.clone()), "matrix") for index, expert in enumerate(start)]
    one, many = Muon(params).build(stacked), Muon(params).build(alone)
    for step in range(4):
        gradient = torch.randn(start.shape, generator=torch.Generator().manual_seed(step))
        gradient[1] *= 1000
        stacked[0].parameter.grad = gradient
        for item, own in zip(alone, gradient):
            item.parameter.grad = own.clone()
        one.step()
        many.step()
    torch.testing.assert_close(stacked[0].parameter, torch.stack([item.parameter for item in alone]), rtol=1e-5, atol=1e-6)


def test_with_rms_an_update_is_of_the_size_of_adamws_in_every_shape() -> None:
    # Moonlight, arXiv 2502.16982, section 2.2: a full-rank orthogonal update has the root mean square 1 / sqrt(max(rows, cols)).
    for shape in ((64, 64), (32, 128), (128, 32)):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        update = newton_schulz(gradient, 5).float() * scale(shape, "rms")
        # The singular values are not 1, but between about 0.7 and 1.2.
        assert 0.7 * 0.2 < update.square().mean().sqrt().item() < 1.2 * 0.2


def test_spectral_takes_the_shape_as_out_by_in() -> None:
    assert scale((64, 16), "spectral") == 2
    assert scale((16, 64), "spectral") == 1


def test_a_gradient_of_zeros_moves_nothing_but_by_decay() -> None:
    weight = nn.Parameter(torch.ones(4, 3))
    optimizer = Muon(MuonParams(lr=0.1, weight_decay=0.5)).build([NamedParameter("w", weight, "matrix")])
    weight.grad = torch.zeros(4, 3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 3), 0.95))


def test_saved_state_of_both_halves_continues_bit_for_bit() -> None:
    straight, left = parameters(), parameters()
    build = Muon(MuonParams()).build
    one, two = build(straight), build(left)
    train([one], straight, range(5))
    train([two], left, range(3))
    right = [item._replace(parameter=nn.Parameter(item.parameter.detach().clone())) for item in left]
    three = build(right)
    three.load_state_dict(two.state_dict())
    train([three], right, range(3, 5))
    assert all(torch.equal(item.parameter, other.parameter) for item, other in zip(straight, right))


def test_spectral_without_an_adamw_lr_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValidationError, match="give adamw_lr as well"):
        MuonParams(scaling="spectral")
