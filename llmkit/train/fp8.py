"""Matrix products in 8 bits: the large linear layers of the blocks, by torchao (`pip install torchao`), on a GPU that has them.

    y = s_x s_w (x / s_x in e4m3) (W / s_w in e4m3)^T,    s = largest magnitude of the tensor / largest number of the format

Micikevicius et al., arXiv 2209.05433. Scales are of whole tensors and found anew for every product (dynamic, `tensorwise`): the
fastest of torchao's recipes, and the one that every card with such products has a kernel for. Gradients of outputs are e5m2. All else
is as in `bf16`: bf16 weights are rounded for the product alone, masters, gradients and what is saved are fp32, and names stay.

Which layers: plain `nn.Linear` inside the blocks that are called, at least 256 wide on both sides, and in whole sixteens, as the
kernels want them. Not the head and not the embedding, whose rounding costs most; not a router or a gate, which are narrow.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import torch
from torch import nn

from llmkit.core.errors import UserError
from llmkit.model.decoder import Decoder

LEAST = 256
"""Inputs and outputs from which a layer is converted: in narrower ones, finding the scales costs more than 8 bits save."""

STEP = 16
CAPABILITY = (8, 9)
"""Ada and Hopper are the first with such products."""


def check(device: torch.device) -> None:
    """`UserError` where this device has no such products, or torchao is not installed."""
    if device.type != "cuda":
        raise UserError(f"train.precision fp8 needs a CUDA device of compute capability 8.9, and this run is on {device.type}; use bf16")
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        name, version = torch.cuda.get_device_name(device), ".".join(map(str, capability))
        raise UserError(
            f"train.precision fp8 needs a GPU of compute capability 8.9 (Ada, Hopper) or later, and {name} has {version}; use bf16"
        )
    if importlib.util.find_spec("torchao") is None:
        raise UserError("train.precision fp8 needs torchao, which is not installed; `pip install torchao`, or use bf16")


def convert(model: Decoder, device: torch.device) -> int:
    """Let the large linear layers compute in 8 bits, in place; how many do. `UserError` where none is large enough.

    Weights, names and what is saved stay as they are. On the CPU, which `check` refuses, the rounding is torchao's emulation.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training  # type: ignore[import-untyped, import-not-found, unused-ignore]

    chosen = {id(layer) for layer in large_layers(model)}
    if not chosen:
        raise UserError(
            f"train.precision fp8: no linear layer of the blocks is {LEAST} wide on both sides and in whole sixteens, "
            "so that nothing would compute in 8 bits; use bf16"
        )
    # Tokens are the inner dimension of the weights' gradients: where a micro-batch has no whole sixteens of them, zeros are added.
    config = Float8LinearConfig(emulate=device.type == "cpu", pad_inner_dim=True)
    convert_to_float8_training(model, config=config, module_filter_fn=lambda module, _: id(module) in chosen)
    return len(chosen)


def large_layers(model: Decoder) -> Iterator[nn.Linear]:
    """The layers that compute in 8 bits."""
    for owner in model.blocks.modules():
        # Whose weights are read by their owner are not called.
        read = getattr(owner, "reads_weights", ())
        for name, layer in owner.named_children():
            if name not in read and type(layer) is nn.Linear and _is_large(layer):
                yield layer


def _is_large(layer: nn.Linear) -> bool:
    sides = (layer.in_features, layer.out_features)
    return min(sides) >= LEAST and not any(side % STEP for side in sides)
