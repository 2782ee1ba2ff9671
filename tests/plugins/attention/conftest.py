"""One attention by itself, beside a rotary position, as a spec would have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmkit import catalog
from llmkit.core.component import Chosen
from llmkit.core.interfaces.attention import Attention, Context, LayerCache
from llmkit.core.interfaces.position import Position
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.model.positions import handle


@dataclass
class Layer:
    """An attention with weights so large that it attends to single tokens: a wrong mask, angle or scale then shows."""

    attention: Attention
    position: Position

    def __call__(self, x: Tensor, cache: LayerCache | None = None, *, start: int = 0) -> Tensor:
        """x (B, T, D), whose first token stands at `start`."""
        positions = torch.arange(start, start + x.shape[1]).expand(x.shape[0], -1)
        ctx = Context(positions, {"main": self.position.tables(positions)}, None, {}, cache is None)
        with torch.no_grad():
            return self.attention(x, ctx, cache)

    def in_chunks(self, x: Tensor, sizes: list[int], *, max_len: int = 32) -> Tensor:
        """The same through a cache, so many tokens at a time."""
        cache, start, found = self.attention.new_cache(len(x), max_len, like=x), 0, []
        for chunk in torch.split(x, sizes, dim=1):
            found.append(self(chunk, cache, start=start))
            start += chunk.shape[1]
        return torch.cat(found, dim=1)


def peaked(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.3 if parameter.dim() > 1 else 1 + 0.3 * drawn)


@pytest.fixture
def layer() -> Callable[..., Layer]:
    def made(name: str, params: Mapping[str, Any], *, d_model: int, number: int = 0, position: Mapping[str, Any] | None = None) -> Layer:
        known = catalog()
        mapping = {"type": "rope", **(position or {})}
        rope = known.find(Kind.position, mapping.pop("type"))
        built: list[Position] = []

        def serve(heads: int, width: int) -> Any:
            site = Site(d_model, width, 1, 0, 64, 10, heads=heads)
            built.append(Chosen(rope, rope.params.model_validate(mapping, context={"catalog": known})).make(site))
            return handle("main", built[0], rope.offered(built), width)

        component = known.find(Kind.attention, name)
        chosen = Chosen(component, component.params.model_validate(dict(params), context={"catalog": known}))
        attention = chosen.make(Site(d_model, d_model, number + 1, number, 64, 10, address="model.block.attention", serve=serve))
        peaked(attention)
        return Layer(attention, built[0])

    return made
