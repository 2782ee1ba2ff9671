"""In which precision a run computes. Whatever it is, what the optimizer updates, what is saved and what gradients add up in is fp32.

fp32           everything
bf16           the model's own weights and activations are bf16 copies of fp32 masters, made anew after every update
               (Micikevicius et al., arXiv 1710.03740, with bf16's exponent, which needs no loss scaling): half the memory traffic
bf16_autocast  fp32 weights and residual stream; torch's autocast lowers the products: closer to fp32, and slower
fp16           the same with fp16 and a loss scaler, for cards without bf16
fp8            as bf16, with the matrix products of the blocks' large linear layers in 8 bits (`fp8`), for cards that have them
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.train import fp8

AUTOCAST = {"bf16_autocast": torch.bfloat16, "fp16": torch.float16}
LOWERED = frozenset({"bf16", "fp8"})
"""Precisions in which the model's own weights are bf16 copies of masters."""


def resolve(precision: str, device: torch.device) -> str:
    """What `auto` becomes on this device, and whether the device can do what was asked. `UserError` where it cannot."""
    if precision == "auto":
        return "bf16" if _fast_bf16(device) else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise UserError(f"train.precision fp16 needs a CUDA device, and this run is on {device.type}; use bf16, fp32 or auto")
    if precision == "fp8":
        fp8.check(device)
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that a forward pass runs in: of a model whose weights are as `lowered` left them."""
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler: fp16 needs one, because its small gradients are zero; for the others it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def lowered(module: nn.Module, precision: str) -> None:
    """Make a module's parameters what they are while it computes in this precision, in place. Buffers stay as they are."""
    if precision in LOWERED:
        for parameter in module.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)


class Masters:
    """fp32 masters of a module that computes with copies of them: in bf16, or on another device.

    Gradients are added to the masters' as soon as the backward pass has them, and are bf16 no longer than that: accumulation
    over micro-batches is in fp32, and no second set of gradients lives. `refresh` copies the masters into the module's weights.

    device  where the masters live, and with them the optimizer's state; the module's unless given
    """

    def __init__(self, module: nn.Module, precision: str, device: torch.device | None = None) -> None:
        self._working: list[Tensor] = list(module.parameters())
        self._masters = [nn.Parameter(parameter.detach().clone().to(device)) for parameter in self._working]
        self._of = {id(working): master for working, master in zip(self._working, self._masters, strict=True)}
        lowered(module, precision)
        for parameter in self._working:
            parameter.register_post_accumulate_grad_hook(self._fold)  # type: ignore[no-untyped-call]

    def of(self, parameter: Tensor) -> Tensor:
        """The master of a weight; what is no weight (a buffer) is its own."""
        return self._of.get(id(parameter), parameter)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """All masters."""
        return self._masters

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the weights that compute."""
        torch._foreach_copy_(self._working, list[Tensor](self._masters))

    def _fold(self, working: Tensor) -> None:
        master, gradient = self._of[id(working)], working.grad
        if gradient is None:
            return
        if master.grad is None:
            master.grad = gradient.to(master.device, torch.float32)
        else:
            master.grad.add_(gradient.to(master.device))
        working.grad = None


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A CPU without these instructions computes bf16 by converting to fp32 and back: slower than fp32 itself.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
