"""The small model and its inputs, for laws about tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.testing.law import LawBroken

TOLERANCE = 1e-4
"""Of the largest number in sight, in fp32: rounding is a hundredth of it, a wrong position a hundred times as much."""


def drawn(spec: Spec) -> Decoder:
    """The model of a spec on the CPU, with noise on every initial value: matrices by their fan-in, vectors a little."""
    model = build(spec).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
    return model


def tokens(rows: int, length: int, *, seed: int = 0) -> Tensor:
    """Ids (rows, length) that tell places apart: letters, drawn."""
    return torch.randint(97, 123, (rows, length), generator=torch.Generator().manual_seed(seed))


def same(found: Tensor, expected: Tensor, otherwise: str, *, tolerance: float = TOLERANCE) -> None:
    """`LawBroken` with the sentence `otherwise` and by how much, where two tensors differ by more than rounding."""
    if found.shape != expected.shape:
        raise LawBroken(f"{otherwise}: shape {tuple(found.shape)} where {tuple(expected.shape)} is due")
    if not found.numel():
        return
    finite(found, otherwise)
    difference = float((found - expected).abs().max())
    largest = max(float(expected.abs().max()), 1e-6)
    if not difference <= tolerance * largest:
        raise LawBroken(f"{otherwise}: they differ by {difference:.2g}, where the largest is {largest:.2g}")


def finite(found: Tensor, otherwise: str) -> None:
    """`LawBroken` with the sentence where anything is infinite or no number."""
    if not bool(torch.isfinite(found).all()):
        bad = (~torch.isfinite(found)).nonzero()[0].tolist()
        raise LawBroken(f"{otherwise}: {found[tuple(bad)].item()} at {bad}")
