"""A model made ready to write: in another precision, and with its one-token step compiled.

Decoding one token reads every weight once and computes little, so its time is the time of reading. Two things bring it near that:
one graph for the whole step, so that little else happens in between; and weights laid out for a matrix times a vector, in 8 bits
with a kernel of its own (`int8.py`). `benchmarks/README.md` has what each brings.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Caches
from llmkit.model.decoder import Decoder
from llmkit.model.head import Head
from llmkit.model.int8 import Int8Linear, quantised, refused, rounded

Precision = Literal["fp32", "bf16", "int8"]

CACHE_STEP = 128
"""A compiled step is made for one length of the caches: lengths are rounded up to multiples of this, so that few are made."""

ROWS = 4
"""Up to so many rows, each goes through the weights as a vector; more are a matrix."""

Step = Callable[[Tensor, Tensor, Caches], Tensor]

PackedLayer = Callable[[nn.Linear, Callable[[Tensor], Tensor] | None], nn.Module]
"""Makes a packed layer of a linear one and of what it does to its result."""


class Decoding:
    """What `generate` decodes with.

    warn       told, once, where the step could not be compiled
    model      the model itself in fp32, or a copy in the precision asked for
    precision  fp32, bf16, or int8: weights rounded to 8 bits a number with a scale a row, the rest in bf16 (needs `compiled`). The
               kernel rounds what a layer reads to 8 bits as well; a CPU without AVX-512 VNNI or a machine without a C++ compiler
               does without it, more slowly, with a warning
    compiled   whether one step becomes one graph: it costs some tens of seconds the first time, and pays for long texts. A machine
               without a C++ compiler goes on without, with a warning
    """

    def __init__(
        self, model: Decoder, *, precision: Precision = "fp32", compiled: bool = False, warn: Callable[[str], None] = warnings.warn
    ) -> None:
        if precision == "int8" and not compiled:
            raise ValueError("int8 weights are unpacked in the compiled step: give compiled=True")
        self.warn = warn
        self.model = model if precision == "fp32" else _as_bf16(model, rounded_weights=precision == "int8")
        self.compiled = compiled
        # int8 is rounded from the weights as they were: bf16 in between would round them twice, by up to a step.
        exact = model if precision == "int8" else self.model
        self._stepping = _packed(self.model, exact, self._layer(precision)) if compiled and _on_cpu(model) else self.model
        self._step: Step = _compile(self._whole_step, on_cpu=_on_cpu(model)) if compiled else self._whole_step

    def length(self, needed: int) -> int:
        """How long the caches should be for so many positions."""
        rounded = -(-needed // CACHE_STEP) * CACHE_STEP
        return rounded if self.compiled and self.model.refuses_cache(rounded) is None else needed

    def step(self, ids: Tensor, positions: Tensor, caches: Caches) -> Tensor:
        """The next logits (B, V) after one more token a row: ids and positions (B, 1), -1 where a row has ended."""
        try:
            return self._step(ids, positions, caches)
        except Exception as error:
            if not of_the_compiler(error):
                raise
            self.warn(f"the step could not be compiled and runs as it is, more slowly: {first_line(error)}")
            self.compiled, self._stepping, self._step = False, self.model, self._whole_step
            return self._step(ids, positions, caches)

    def _whole_step(self, ids: Tensor, positions: Tensor, caches: Caches) -> Tensor:
        logits: Tensor = self._stepping(ids, positions=positions, caches=caches)
        # Who chooses among them finds the largest of 32,000 in fp32 in a quarter of the time that it takes in bf16.
        return logits[:, -1].float()

    def _layer(self, precision: Precision) -> PackedLayer:
        """How a linear layer is packed."""
        if precision == "int8":
            if (reason := refused()) is None:
                return Int8Linear
            self.warn(f"int8 decodes without its kernel, more slowly: {reason}")
        return partial(PackedLinear, int8=precision == "int8")


class PackedLinear(nn.Module):
    """y = finish(W x + b), x (..., in) -> (..., out), for few rows at a time, with W laid out in blocks: (out / n, in, n).

    A block's n outputs fill vector registers and its weights lie in the order in which they are read, so that the compiler's
    loop is one multiplication and one addition a weight, without adding up across a register. In int8 a weight is a byte
    that is multiplied by its row's scale at the end.

    finish  what the layer does to its result: a head's scale and soft-cap
    """

    def __init__(self, linear: nn.Linear, finish: Callable[[Tensor], Tensor] | None, *, int8: bool) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.out = linear.out_features
        self.finish = finish
        self.block = 16 if int8 or weight.dtype is torch.float32 else 32
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.register_buffer("scale", None)
        if int8:
            weight, scale = quantised(weight)
            self.scale = scale
        # Rows that fill the last block are zeros, and are cut off again.
        weight = F.pad(weight, (0, 0, 0, -self.out % self.block))
        self.register_buffer("weight", weight.view(-1, self.block, linear.in_features).transpose(1, 2).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        y = torch.stack([self._vector(row) for row in rows]) if len(rows) <= ROWS else self._matrix(rows)
        bias: Tensor | None = self.bias  # type: ignore[assignment]
        if bias is not None:
            y = y + bias
        y = y.to(x.dtype).view(*x.shape[:-1], self.out)
        return y if self.finish is None else self.finish(y)

    def _vector(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight  # type: ignore[assignment]
        y = (weight.float() * x.float()[:, None]).sum(dim=1).flatten()[: self.out]
        return y if self.scale is None else y * self.scale

    def _matrix(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight  # type: ignore[assignment]
        y = F.linear(x, weight.transpose(1, 2).flatten(0, 1)[: self.out].to(x.dtype))
        return y if self.scale is None else y * self.scale


def _compile(step: Step, *, on_cpu: bool) -> Step:
    # torch counts how often a function was compiled, over all models that use it, and gives up at eight: this one is counted alone.
    counted_alone = {"isolate_recompiles": True} if "isolate_recompiles" in signature(torch.compile).parameters else {}
    compiled: Step = torch.compile(step, dynamic=False, options=_options(on_cpu), **counted_alone)  # type: ignore[call-overload]
    return compiled


def _options(on_cpu: bool) -> dict[str, Any]:
    """On a CPU, C++ rather than Python calls the kernels; and of what torch checks before each step, only what may change."""
    options: dict[str, Any] = {"cpp_wrapper": on_cpu}
    # Older versions of torch check everything: 0.3 ms a step for a model of 8 layers.
    if hasattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe"):
        options["guard_filter_fn"] = lambda guards: [guard.name.split(".")[0] != _OURS for guard in guards]
    return options


_OURS = "self"
"""What the compiled step reads of its `Decoding`, a model that nobody changes, and may trust."""


def round_to_int8(model: nn.Module) -> None:
    """Round, in place, what int8 decoding rounds: weights once, and what the layers read as it comes. To measure what it loses."""
    _round_weights(model)
    for parent, name in _packable(model):
        getattr(parent, name).register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))


def _round_weights(model: nn.Module) -> None:
    with torch.no_grad():
        for linear in _linears(model):
            integers, scale = quantised(linear.weight)
            # A tied head is rounded by itself: the embedding stays.
            linear.weight = nn.Parameter((integers * scale[:, None]).to(linear.weight.dtype), requires_grad=False)


def _as_bf16(model: Decoder, *, rounded_weights: bool) -> Decoder:
    made = copy.deepcopy(model)
    if rounded_weights:
        _round_weights(made)
        return made.to(torch.bfloat16)
    made = made.to(torch.bfloat16)
    made.tie_weights()
    return made


def _packed(model: Decoder, exact: Decoder, layer: PackedLayer) -> Decoder:
    """The same model, sharing what is not packed, with every plain linear layer packed, from the weights of `exact`."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    made = copy.deepcopy(model, shared)
    sources = {id(parent): path for path, parent in made.named_modules()}
    for parent, name in list(_packable(made)):
        path = sources[id(parent)]
        linear: nn.Linear = exact.get_submodule(f"{path}.{name}" if path else name)  # type: ignore[assignment]
        setattr(parent, name, layer(linear, getattr(getattr(parent, name), "finish", None)))
    # Whoever decodes sets the mode of the model, which this copy does not hear of.
    return made.eval()


def _packable(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The plain linear layers that are only called: whose they are, and under which name."""
    for parent in model.modules():
        # A module that reads a layer's weights itself, as latent attention absorbs its up-projections, finds them as they were.
        read = getattr(parent, "reads_weights", ())
        yield from ((parent, name) for name, child in parent.named_children() if type(child) in _PLAIN and name not in read)


_PLAIN = (nn.Linear, Head)
"""Exactly these: a subclass (adapters, another's quantisation) knows better what it does."""


def _linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if type(module) in _PLAIN]  # type: ignore[misc]


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


def of_the_compiler(error: Exception) -> bool:
    """Whether torch's compiler raised it, and what it was to compile still runs as it is."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def first_line(error: Exception) -> str:
    """What an error says in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
