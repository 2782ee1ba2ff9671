"""One block: an attention, a feed-forward network, and norms where the layout puts them.

pre          x = x + attention(norm(x));          x = x + ffn(norm(x))                  GPT-2, Llama
post         x = norm(x + attention(x));          x = norm(x + ffn(x))                  the original Transformer
sandwich     x = x + norm(attention(norm(x)));    x = x + norm(ffn(norm(x)))            Gemma 2
branch_post  x = x + norm(attention(x));          x = x + norm(ffn(x))                  OLMo 2
parallel     x = x + attention(norm(x)) + ffn(norm'(x)), norm' = norm where shared      GPT-NeoX, GPT-J

With `residual_scale` s, every branch f adds s f instead (MiniCPM, Granite; depth muP: s = 1 / sqrt(n_layers), arXiv 2310.02244).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Context, LayerCache
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.site import Site
from llmkit.core.spec import BlockSpec, Recompute
from llmkit.model.recompute import recomputed


class Block(nn.Module):
    """One layer, (B, T, D) -> (B, T, D). The same class for every layer: hybrids differ in what it holds.

    recompute  what is forgotten after a forward pass in training; the engine sets it
    """

    compiled_alone = True
    recompute: Recompute = "none"

    def __init__(self, spec: BlockSpec, site: Site) -> None:
        super().__init__()
        self.layout = spec.layout
        self.attention = site.make("attention", spec.attention)
        self.ffn = site.make("ffn", spec.ffn)
        self.attention_norm = site.make("norm", spec.norm)
        if not (spec.layout == "parallel" and spec.shared_norm):
            self.ffn_norm = site.make("norm", spec.norm)
        if spec.layout == "sandwich":
            self.attention_post_norm = site.make("norm", spec.norm)
            self.ffn_post_norm = site.make("norm", spec.norm)
        self.shared_norm = spec.shared_norm
        self.residual_scale = site.n_layers**-0.5 if spec.residual_scale == "depth" else spec.residual_scale

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        """x (B, T, D) -> (B, T, D), and what the parts have to say besides, under their names."""
        forward = _LAYOUTS[self.layout]
        if self.recompute == "none" or cache is not None or not torch.is_grad_enabled():
            return forward(self, x, ctx, cache)
        result: tuple[Tensor, Aux] = recomputed(self.recompute, forward, self, x, ctx, cache)
        return result

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual stream with a branch added to it."""
        return x + branch if self.residual_scale == 1 else x + self.residual_scale * branch


def _pre(block: Block, x: Tensor, ctx: Context, cache: LayerCache | None) -> tuple[Tensor, Aux]:
    x = block.add(x, block.attention(block.attention_norm(x), ctx, cache))
    y, aux = _split(block.ffn(block.ffn_norm(x)))
    return block.add(x, y), aux


def _post(block: Block, x: Tensor, ctx: Context, cache: LayerCache | None) -> tuple[Tensor, Aux]:
    x = block.attention_norm(block.add(x, block.attention(x, ctx, cache)))
    y, aux = _split(block.ffn(x))
    return block.ffn_norm(block.add(x, y)), aux


def _sandwich(block: Block, x: Tensor, ctx: Context, cache: LayerCache | None) -> tuple[Tensor, Aux]:
    x = block.add(x, block.attention_post_norm(block.attention(block.attention_norm(x), ctx, cache)))
    y, aux = _split(block.ffn(block.ffn_norm(x)))
    return block.add(x, block.ffn_post_norm(y)), aux


def _branch_post(block: Block, x: Tensor, ctx: Context, cache: LayerCache | None) -> tuple[Tensor, Aux]:
    x = block.add(x, block.attention_norm(block.attention(x, ctx, cache)))
    y, aux = _split(block.ffn(x))
    return block.add(x, block.ffn_norm(y)), aux


def _parallel(block: Block, x: Tensor, ctx: Context, cache: LayerCache | None) -> tuple[Tensor, Aux]:
    normed = block.attention_norm(x)
    y, aux = _split(block.ffn(normed if block.shared_norm else block.ffn_norm(x)))
    return block.add(x, block.attention(normed, ctx, cache) + y), aux


_LAYOUTS: dict[str, Callable[[Block, Tensor, Context, LayerCache | None], tuple[Tensor, Aux]]] = {
    "pre": _pre,
    "post": _post,
    "sandwich": _sandwich,
    "branch_post": _branch_post,
    "parallel": _parallel,
}


def _split(result: Tensor | tuple[Tensor, Aux]) -> tuple[Tensor, Aux]:
    """A feed-forward network returns `y` or `(y, Aux)`; here it is always both."""
    if isinstance(result, tuple):
        y, aux = result
        return y, Aux({f"ffn.{name}": loss for name, loss in aux.losses.items()}, {f"ffn.{name}": stat for name, stat in aux.stats.items()})
    return result, Aux({}, {})
