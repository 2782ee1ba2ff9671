"""fp32 matrix products on an AMD CPU: by oneDNN, which torch has for bf16, instead of MKL, which it takes for fp32.

On an EPYC with AVX-512, two cores, GFLOP/s, MKL and oneDNN: 2,048 x 512 times 512 x 1,408, 190 and 217; a head's logits,
512 x 384 times 384 x 50,304, 149 and 209, and the gradient of its input, 192 and 201. That of a weight stays MKL's, which is as fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmkit.model.head import Head

LARGE = 1 << 17
"""Weights of a layer from which the few microseconds that this costs a call are nothing."""


def through_onednn(root: nn.Module) -> int:
    """Let large linear layers in fp32 compute by oneDNN, in place, where that is the faster library; how many do.

    Names, weights and types stay as they are. Only plain layers without hooks are touched: an adapter knows better what it does.
    """
    if not _is_faster():
        return 0
    layers = [module for module in root.modules() if isinstance(module, nn.Linear) and _is_plain(module)]
    for layer in layers:
        layer.forward = _Forward(layer)  # type: ignore[method-assign, assignment]
        if isinstance(layer, Head):
            layer.pull = _Pull(layer)  # type: ignore[method-assign]
    return len(layers)


class _Forward:
    """A layer's forward by oneDNN, with what its head does to the result."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.finish = getattr(layer, "finish", None)

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self.layer.weight, self.layer.bias)  # type: ignore[no-untyped-call]
        return y if self.finish is None else self.finish(y)


class _Pull:
    """The gradient of a head's input by oneDNN."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, slope: Tensor) -> Tensor:
        found: Tensor = _linear(slope, self.layer.weight.t(), None)
        return found


class _Product(torch.autograd.Function):
    """y = x W^T + b: x (..., in), W (out, in), b (out,) or None -> (..., out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        y: Tensor = _linear(x, weight, bias)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        slope = slope.contiguous()
        rows = slope.flatten(0, -2)
        of_x = _linear(slope, weight.t(), None) if ctx.needs_input_grad[0] else None
        of_weight = rows.t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(dim=0) if ctx.needs_input_grad[2] else None


@torch.library.custom_op("llmkit::linear", mutates_args=())
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # An operator of its own, because torch's compiler takes the one in it to be for weights that never change.
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


@_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _is_plain(layer: nn.Linear) -> bool:
    if type(layer) not in (nn.Linear, Head) or layer._forward_hooks or layer._forward_pre_hooks:
        return False
    weight = layer.weight
    return type(weight) is nn.Parameter and weight.dtype is torch.float32 and weight.device.type == "cpu" and weight.numel() >= LARGE


def _is_faster() -> bool:
    # By the processor's maker and not by a measurement: a run that goes on must compute as it began, to the last bit.
    information = Path("/proc/cpuinfo")
    if not information.exists() or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return "AuthenticAMD" in information.read_text()
