"""Parts of a module that are compiled, each by itself: on every rank or on none.

The compiler works when a part first computes, and again for what it has not seen: another shape, an evaluation. Where it fails, the
part still runs as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn

from llmkit.core.errors import UserError

ACTIVATIONS = {"fp32": 1.0}
ACTIVATIONS_LOWERED = 0.7
"""Of what a compiled block would keep for its backward pass, the part that it may; the rest is computed again, the cheapest first.

That is norms and activation functions. Shape B of the benchmarks, bf16: 849 to 791 MB resident, 1,763 and 1,755 tokens a second; fp32,
whose exact functions cost more: 1,025 to 901 MB, 970 and 941 tokens a second.
"""


def compile_parts(root: nn.Module, precision: str) -> None:
    """Compile, in place, each module that says `compiled_alone`: parts that are alike share one graph, and names stay as they are."""
    from torch._functorch import config

    config.activation_memory_budget = ACTIVATIONS.get(precision, ACTIVATIONS_LOWERED)
    for module in root.modules():
        if getattr(module, "compiled_alone", False):
            module.compile()


def uncompile_parts(root: nn.Module) -> None:
    """The modules as they were before `compile_parts`."""
    for module in root.modules():
        module._compiled_call_impl = None


def of_any_rank(failure: str, ranks: int) -> str:
    """What the compiler said on the first rank where it failed, with its number; nothing where it failed nowhere.

    failure  what it said on this one. All ranks call it, and learn the same
    """
    if ranks == 1:
        return failure
    everyone = [""] * ranks
    distributed.all_gather_object(everyone, failure)
    return next((f"on rank {rank}, {said}" for rank, said in enumerate(everyone) if said), "")


@contextmanager
def draws_kept(device: torch.device) -> Iterator[None]:
    """Whatever draws in between, what follows draws as if it had not."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def too_late(failure: str, rank: int) -> UserError:
    """What ends a run of several ranks where the compiler fails in the middle of it: others wait for this rank's gradients already."""
    return UserError(
        f"the compiler, which had worked until now, failed on rank {rank}: {failure}; the same command goes on from the last complete "
        "checkpoint, and does so without a compiler where train.compile is false"
    )
