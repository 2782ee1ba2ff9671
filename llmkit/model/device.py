"""Where a model computes."""

from __future__ import annotations

import torch


def fastest_device() -> torch.device:
    """The accelerator where the machine has one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if accelerator is None else accelerator
