"""Feed-forward networks: what a block does to each token by itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Aux(NamedTuple):
    """What a block has to say beside its output: nothing is stored on a module, because checkpointing runs forward twice.

    losses  name -> (B,) tensor: for each sequence a loss per counted token, a function of that sequence alone. The objective
            multiplies it by the sequence's counted tokens, so that accumulation and ranks change nothing
    stats   name -> tensor, summed over micro-batches and ranks and handed to `after_step`
    """

    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class FeedForward(nn.Module):
    """A feed-forward network, built with `(params, site)`: every token by itself.

    It may return `x` or `(x, Aux(losses, stats))`. What must change between steps (loss-free balancing) happens in an
    optional `after_step(stats: dict[str, Tensor]) -> None`, called once an optimizer step.

    `residual = ("down.weight",)` names its own parameters that write into the residual stream: an `init` may make those smaller.

    `parallel = {"gate": "column", "up": "column", "down": "row"}` offers a plan for tensor parallelism, in the words of an attention's.

    FLOPs are counted by running it on the meta device. Where that cannot be (products that depend on values), a method
    `flops(length) -> int` says how many one forward pass over a sequence takes, a multiply-add as two; it is then not run there.
    """

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Aux]:
        """x (B, T, D) -> (B, T, D)."""
        raise NotImplementedError
