"""A decoder-only language model out of components: embeddings, blocks, a final norm, a head.

Tensors travel, modules do not: what layers share (position tables, masks, caches) arrives as an argument.
Shapes: B batch, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.attention import Caches, Context, Gathered, visible
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import Batch
from llmkit.core.interfaces.optimizer import Role
from llmkit.core.interfaces.position import PositionHandle, Tables
from llmkit.core.site import Site
from llmkit.core.spec import BlockSpec, ModelSpec, Spec
from llmkit.model.block import Block
from llmkit.model.embedding import Embedding
from llmkit.model.head import Head
from llmkit.model.positions import PositionBroker

MAIN = "main"
"""The model's own position among `positions`."""


class Decoder(nn.Module):
    """The model of a spec. Its module names are the spec's addresses and the saved keys.

    `model(ids)` gives logits; with `caches`, tokens are read in chunks. Padding has position -1.
    """

    _no_split_modules: ClassVar[list[str]] = ["Block"]

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        model, vocab_size = spec.model, spec.vocab_size
        site = Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, vocab_size, address="model")
        self.embedding = Embedding(vocab_size, model.d_model)
        self.position = site.make("position", model.position) if _embeds(model) else None
        broker = PositionBroker(site)
        self.blocks = nn.ModuleList(_blocks(model, site, broker))
        self.positions = nn.ModuleDict(broker.modules)
        self.norm = site.make("norm", model.norm or model.block_at(model.n_layers - 1).norm)
        scale = model.logit_scale * model.init.make().logit_scale(model.d_model)
        self.head = Head(model.d_model, vocab_size, scale=scale, softcap=model.logit_softcap)
        self.embedding_scale = math.sqrt(model.d_model) if model.embedding_scale == "sqrt" else model.embedding_scale
        self.roles: dict[str, Role] = {"embedding.weight": "embedding", "head.weight": "head"}
        self.tied = model.tie_embeddings
        self.tie_weights()
        # A window that attentions share is masked once a forward pass.
        self.windows = {getattr(block.attention, "window", None) for block in self.blocks}
        self.biased = broker.biased
        # Whether attention goes by flex attention where it has no cache; None where that is faster.
        self.flex: bool | None = None
        # Where sequences are cut over ranks: what makes a tensor of this rank's tokens one of all, along a dimension.
        self.across: Callable[[Tensor, int], Tensor] | None = None

    def forward(
        self, ids: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None, caches: Caches | None = None
    ) -> Tensor:
        """ids (B, T) int64 -> logits (B, T, V).

        positions  (B, T) int64, -1 for padding; 0..T-1, or where the caches stand, unless given
        segments   (B, T) int64: packed documents do not see each other
        caches     from `new_caches`; they are read, added to, and advanced. Not together with segments: `ValueError`
        """
        h, _ = self._hidden(ids, positions, segments, caches)
        logits: Tensor = self.head(h)
        return logits

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        """Final hidden states (B, T, D) of a training batch, and the auxiliary results of all blocks by address."""
        return self._hidden(batch.ids, batch.positions, batch.segments, None)

    def new_caches(self, batch: int, max_len: int) -> Caches:
        """Empty caches for `batch` rows of up to `max_len` positions, in the dtype and on the device of the model.

        `UserError` where a position encoding refuses a cache of that length, with its reason.
        """
        if (reason := self.refuses_cache(max_len)) is not None:
            raise UserError(f"a cache of {max_len} positions is refused by {reason}")
        like = self.embedding.weight
        seen = torch.zeros(batch, dtype=torch.int64, device=like.device)
        return Caches(seen, [block.attention.new_cache(batch, max_len, like=like.detach()) for block in self.blocks])  # type: ignore[union-attr, operator]

    def refuses_cache(self, max_len: int) -> str | None:
        """Which position encoding can serve no cache for up to `max_len` positions, and why; None where all can."""
        for name, position in self.positions.items():
            if (reason := position.refuses_cache(max_len)) is not None:  # type: ignore[operator]
                return f"positions.{name}: {reason}"
        return None

    def tie_weights(self) -> None:
        """Make the head the embedding table again, where the spec says so: after `to_empty`, after loading."""
        if self.tied:
            self.head.weight = self.embedding.weight

    def reset_buffers(self) -> None:
        """Rebuild the non-persistent buffers of every component that has a `reset_buffers`, after `to_empty`."""
        for module in self.modules():
            reset = getattr(module, "reset_buffers", None)
            if module is not self and reset is not None:
                reset()

    def goes_by_flex(self, device: torch.device) -> bool:
        """Whether attention on this device goes by flex attention where it has no cache: in blocks that are compiled, on a GPU, where
        every attention reads other tokens through `attend` alone. Others may read the masks that there are then none of."""
        if self.flex is not None:
            return self.flex
        if device.type != "cuda":
            return False
        compiled = all(block._compiled_call_impl is not None for block in self.blocks)
        return compiled and all(getattr(block.attention, "context_parallel", False) for block in self.blocks)

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding: accelerate looks for it."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Linear:
        """The head: accelerate looks for it."""
        return self.head

    def enter(self, ids: Tensor, ctx: Context) -> Tensor:
        """ids (B, T) -> what the first block reads, (B, T, D)."""
        x: Tensor = self.embedding(ids)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        if self.position is not None:
            x = self.position.embed(x, ctx.positions.clamp(min=0))
        return x

    def through(self, x: Tensor, ctx: Context, layers: Sequence[int], caches: Caches | None = None) -> tuple[Tensor, Aux]:
        """x (B, T, D) through some of the blocks, in order, and what they have to say by address."""
        total = Aux({}, {})
        for index in layers:
            x, aux = self.blocks[index](x, ctx, None if caches is None else caches.layers[index])
            _collect(total, aux, f"blocks.{index}")
        return x, total

    def context(self, batch: Batch) -> Context:
        """What all layers share of a training batch."""
        return self._context(batch.ids, batch.positions, batch.segments, None)

    def _hidden(self, ids: Tensor, positions: Tensor | None, segments: Tensor | None, caches: Caches | None) -> tuple[Tensor, Aux]:
        ctx = self._context(ids, positions, segments, caches)
        x, aux = self.through(self.enter(ids, ctx), ctx, range(len(self.blocks)), caches)
        if caches is not None:
            caches.seen.add_((ctx.positions >= 0).sum(dim=1))
        return self.norm(x), aux

    def _context(self, ids: Tensor, positions: Tensor | None, segments: Tensor | None, caches: Caches | None) -> Context:
        if caches is not None and segments is not None:
            raise ValueError("packed documents cannot be read with a cache: give `segments` or `caches`, not both")
        plain = positions is None and segments is None and caches is None
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            if caches is not None:
                positions = positions + caches.seen[:, None]
        known = positions.clamp(min=0)
        tables = {key: module.tables(known) for key, module in self.positions.items()}  # type: ignore[operator]
        if self.across is not None and caches is None:
            return self._context_of_a_part(positions, tables, segments, self.across)
        if caches is not None:
            return Context(positions, tables, segments, {}, plain)
        if self.goes_by_flex(ids.device):
            from llmkit.core.interfaces.flex import block_masks

            blocks = block_masks(positions, segments, self.windows, plain=plain)
            return Context(positions, tables, segments, {}, plain, blocks=blocks)
        return Context(positions, tables, segments, self._masks(positions, segments, plain), plain)

    def _context_of_a_part(
        self, positions: Tensor, tables: dict[str, Tables], segments: Tensor | None, across: Callable[[Tensor, int], Tensor]
    ) -> Context:
        every, their_segments = across(positions, 1), None if segments is None else across(segments, 1)
        masks = {window: visible(positions, every, window, segments, their_segments) for window in self.windows}
        return Context(positions, tables, segments, masks, False, Gathered(every, their_segments, lambda x: across(x, 2)))

    def _masks(self, positions: Tensor, segments: Tensor | None, plain: bool) -> dict[int | None, Tensor]:
        if not plain:
            return {window: visible(positions, positions, window, segments, segments) for window in self.windows}
        # All rows are alike; and without a window SDPA needs no mask, except for a bias.
        row = positions[:1]
        return {window: visible(row, row, window) for window in self.windows if window is not None or self.biased}


def _embeds(model: ModelSpec) -> bool:
    return "embed" in model.position.component.offered(model.position.params)


def _blocks(model: ModelSpec, site: Site, broker: PositionBroker) -> list[Block]:
    """All blocks, after a first pass on the meta device that only finds out which positions they ask for."""
    layers = [(layer, name, model.block_at(layer)) for layer, name in enumerate(model.layers())]
    with torch.device("meta"):
        for layer, name, spec in layers:
            Block(spec, _site(site, name, layer, broker.note(_position_name(name, spec))))
    blocks = []
    for layer, name, spec in layers:
        serve = broker.serve(_position_name(name, spec), spec.position or model.position)
        blocks.append(Block(spec, _site(site, name, layer, serve)))
    return blocks


def _position_name(name: str | None, spec: BlockSpec) -> str:
    if spec.position is None:
        return MAIN
    if name == MAIN or hasattr(nn.ModuleDict, name or "") or "." in (name or ""):
        raise UserError(f"model.blocks.{name}: the block's own position would be called {name!r}, which is taken; call the block otherwise")
    if spec.position.component.offered(spec.position.params) & {"embed", "rotate", "bias"} == {"embed"}:
        raise UserError(
            f"model.blocks.{name}.position: {spec.position.type!r} is added to the embeddings, which a block does not see; "
            "make it model.position, or choose one that works inside attention"
        )
    return name or "block"


def _site(site: Site, name: str | None, layer: int, serve: Callable[[int, int], PositionHandle]) -> Site:
    address = "model.block" if name is None else f"model.blocks.{name}"
    return replace(site, layer=layer, address=address, serve=serve)


def _collect(total: Aux, aux: Aux, address: str) -> None:
    total.losses.update({f"{address}.{name}": loss for name, loss in aux.losses.items()})
    total.stats.update({f"{address}.{name}": stat for name, stat in aux.stats.items()})
