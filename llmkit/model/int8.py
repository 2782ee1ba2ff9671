"""Linear layers in 8 bits: how weights and activations are rounded, and a kernel that multiplies bytes by bytes.

Weights are rounded once, with a scale a row: w = n s, n in -127..127. Activations are rounded as they come, with a scale for every
`GROUP` of a row's channels, as llama.cpp's Q8_0 does, so that one large channel spoils 32 and not all.

The kernel, `int8_linears.cpp`, is compiled when it is first wanted, for processors with AVX-512 VNNI, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces import kernel

GROUP = 32
"""Channels of an activation that share a scale."""

BLOCK = 64
"""Outputs that the kernel computes together."""

SOURCE = Path(__file__).with_name("int8_linears.cpp")


class Int8Linear(nn.Module):
    """y = finish(W x + b), x (..., in) -> (..., out), with the weights and, as they come, the activations rounded to 8 bits.

    finish  what the layer does to its result: a head's scale and soft-cap
    """

    def __init__(self, linear: nn.Linear, finish: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.out = linear.out_features
        self.finish = finish
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.register_buffer("weight", packed(*quantised(linear.weight.detach())))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return self.project_with(x)[0]

    def project_with(self, x: Tensor, *others: Int8Linear) -> tuple[Tensor, ...]:
        """This layer's result and those of others that read the same x, which is rounded once, in one call of the kernel."""
        layers = (self, *others)
        outs = [layer.out for layer in layers]
        y: Tensor = torch.ops.llmkit.int8_linears(x, [layer.weight for layer in layers], outs)
        return tuple(layer._finished(part, x.dtype) for layer, part in zip(layers, torch.split(y, outs, dim=-1), strict=True))

    def _finished(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        bias: Tensor | None = self.bias  # type: ignore[assignment]
        y = (y if bias is None else y + bias).to(dtype)
        return y if self.finish is None else self.finish(y)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) -> int8 (out, in) and the fp32 scale of each row (out,): weight = int8 * scale, the largest of a row being 127."""
    scale = weight.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def rounded(x: Tensor) -> Tensor:
    """Activations (..., in) as the kernel reads them: each group of `GROUP` rounded to 8 bits with a scale of its own."""
    width = x.shape[-1]
    groups = torch.unflatten(F.pad(x.float(), (0, -width % GROUP)), -1, (-1, GROUP))
    largest = groups.abs().amax(dim=-1, keepdim=True)
    steps = torch.where(largest > 0, 127 / largest, 0)
    back: Tensor = (groups * steps).round() * (largest / 127)
    return back.flatten(-2)[..., :width].to(x.dtype)


def packed(integers: Tensor, scale: Tensor) -> Tensor:
    """int8 (out, in) and scales (out,) as the kernel reads them, uint8 (blocks, in' * 64 + 256): see `int8_linears.cpp`."""
    out, width = integers.shape
    filled = F.pad(integers, (0, -width % GROUP, 0, -out % BLOCK)).to(torch.int16) + 128
    fours = filled.to(torch.uint8).view(-1, BLOCK, filled.shape[1] // 4, 4).transpose(1, 2).flatten(1)
    scales = F.pad(scale, (0, -out % BLOCK)).view(-1, BLOCK).view(torch.uint8)
    return torch.cat([fours, scales], dim=1)


@cache
def refused() -> str | None:
    """Why the kernel cannot be had on this machine; None where it is loaded and `Int8Linear` works."""
    reason = kernel.refused(SOURCE, "avx512_vnni")
    if reason is None:
        torch.library.register_fake("llmkit::int8_linears", _fake)
    return reason


def _fake(x: Tensor, weights: Sequence[Tensor], outs: Sequence[int]) -> Tensor:
    return x.new_empty((*x.shape[:-1], sum(outs)), dtype=torch.float32)
