"""The coordinate check: do activations keep their size as the model gets wider, over the first steps of training?

Where they grow with the width, a learning rate that was found on a narrow model is too large for a wide one; muP is the way of
scaling in which they do not (Yang et al. 2022, arXiv 2203.03466, appendix D.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llmkit.core.component import Chosen
from llmkit.core.interfaces.objective import Batch
from llmkit.core.site import Site
from llmkit.core.spec import BlockSpec, Spec
from llmkit.model.build import build
from llmkit.model.init import initialise, named_parameters_with_roles
from llmkit.train.step import TrainStep

TOKENS = 64
"""Tokens in each of the sequences that are trained on, at most."""


class Coordinate(NamedTuple):
    """The mean absolute activation that a module puts out, in a model of this width, after so many optimizer steps."""

    width: int
    step: int
    module: str
    size: float


def widened(spec: Spec, factor: int) -> Spec:
    """The spec of a model `factor` times as wide: every component says what of it grows along."""
    model = spec.model
    changes: dict[str, Any] = {"d_model": model.d_model * factor}
    if model.block is not None:
        changes["block"] = _widened_block(model.block, factor)
    if model.blocks is not None:
        changes["blocks"] = {name: _widened_block(block, factor) for name, block in model.blocks.items()}
    return spec.model_copy(update={"model": model.model_copy(update=changes)})


def coordinates(
    spec: Spec, factors: Sequence[int], *, steps: int = 4, seeds: int = 2, progress: Callable[[int, int], None] | None = None
) -> list[Coordinate]:
    """Sizes before training and after each of `steps`, for every factor on the spec's width, averaged over seeds.

    Each model is trained with the spec's optimizer at its peak learning rate, on one batch of random tokens that all share.
    progress  called with (width, seed) before each model is built
    """
    found = []
    for factor in factors:
        wide = widened(spec, factor)
        runs = []
        for seed in range(seeds):
            if progress is not None:
                progress(wide.model.d_model, seed)
            runs.append(_sizes(wide, steps, seed))
        for (step, module), size in runs[0].items():
            mean = math.fsum([size, *(run[step, module] for run in runs[1:])]) / seeds
            found.append(Coordinate(wide.model.d_model, step, module, mean))
    return found


def slopes(found: Sequence[Coordinate]) -> dict[str, float | None]:
    """Of every module, the slope of log size against log width after the last step, by least squares: 0 where the size stays,
    1/2 or 1 where it grows with the root of the width or with the width. None where a size is 0 or not finite.
    """
    last = max(one.step for one in found)
    return {module: _slope([one for one in found if (one.step, one.module) == (last, module)]) for module in _modules(found)}


def _modules(found: Sequence[Coordinate]) -> list[str]:
    return list(dict.fromkeys(one.module for one in found))


def _slope(points: Sequence[Coordinate]) -> float | None:
    if any(not (math.isfinite(one.size) and one.size > 0) for one in points):
        return None
    x, y = [math.log(one.width) for one in points], [math.log(one.size) for one in points]
    middle, level = math.fsum(x) / len(x), math.fsum(y) / len(y)
    spread = math.fsum((value - middle) ** 2 for value in x)
    return math.fsum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / spread


def _widened_block(block: BlockSpec, factor: int) -> BlockSpec:
    grown = {name: _widened(getattr(block, name), factor) for name in ("attention", "ffn")}
    return block.model_copy(update=grown)


def _widened(chosen: Chosen, factor: int) -> Chosen:
    return Chosen(chosen.component, chosen.params.widened(factor))


def _sizes(spec: Spec, steps: int, seed: int) -> dict[tuple[int, str], float]:
    model = build(spec, seed=seed)
    site = Site(spec.model.d_model, spec.model.d_model, spec.model.n_layers, 0, spec.model.max_seq_len, spec.vocab_size)
    root = TrainStep(model, spec.train.objective.make(site))
    initialise(root.objective, spec.model, seed, prefix="objective.")
    optimizer = spec.train.optimizer.make().build(named_parameters_with_roles(root, spec.model))
    batch = _batch(spec)
    count = root.objective.count(batch)
    sizes: dict[tuple[int, str], float] = {}
    for step in range(steps + 1):
        with _Watched(model) as watched:
            total = root(batch).total / count
        sizes |= {(step, name): size for name, size in watched.sizes.items()}
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return sizes


def _batch(spec: Spec) -> Batch:
    """Random tokens: what they are is the same at every width."""
    length = min(spec.seq_len, TOKENS)
    ids = torch.randint(spec.vocab_size, (min(spec.train.batch_size, 8), length + 1), generator=torch.Generator().manual_seed(0))
    return Batch(ids[:, :-1], ids[:, 1:])


class _Watched:
    """Notes the size of what the embedding, every branch, the blocks, the last norm and the head put out."""

    def __init__(self, model: nn.Module) -> None:
        self.sizes: dict[str, float] = {}
        parts = {f"blocks.{index}{part}" for index in range(len(model.blocks)) for part in ("", ".attention", ".ffn")}  # type: ignore[arg-type]
        names = {"embedding", "norm", "head"} | parts
        self._hooks = [module.register_forward_hook(self._noting(name)) for name, module in model.named_modules() if name in names]

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *reason: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _noting(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            found: Tensor = output[0] if isinstance(output, tuple) else output
            self.sizes[name] = float(found.detach().float().abs().mean())

        return note
