"""Activation checkpointing: what a block computes is forgotten after the forward pass and computed again in the backward pass.

full       a block keeps its input alone: least memory, one forward pass more (Chen et al. 2016, arXiv 1604.06174)
selective  it keeps the results of matrix products and attention as well, and computes the cheap rest again (Korthikanti et al.
           2022, arXiv 2205.05198)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from llmkit.core.spec import Recompute

_aten = torch.ops.aten

KEPT = [
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
]
"""Operations whose results are worth their memory."""


def recomputed(mode: Recompute, forward: Callable[..., Any], *arguments: Any) -> Any:
    """`forward(*arguments)`, of which only what the mode keeps outlives the forward pass. Results and gradients are the same."""
    if mode == "full":
        return checkpoint(forward, *arguments, use_reentrant=False)
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=_selective)


def _selective() -> Any:
    return create_selective_checkpoint_contexts(KEPT)  # type: ignore[no-untyped-call]
