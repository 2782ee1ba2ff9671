"""In which precision a run computes. Weights, gradients and optimizer state are fp32 in every mode; autocast lowers the products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from llmkit.core.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device) -> str:
    """What `auto` becomes on this device, and whether the device can do what was asked. `UserError` where it cannot."""
    if precision == "auto":
        return "bf16" if _fast_bf16(device) else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise UserError(f"train.precision fp16 needs a CUDA device, and this run is on {device.type}; use bf16, fp32 or auto")
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that a forward pass runs in."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler: fp16 needs one, because its small gradients are zero; for the others it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A CPU without these instructions computes bf16 by converting to fp32 and back: slower than fp32 itself.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
