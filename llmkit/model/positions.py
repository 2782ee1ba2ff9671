"""The position encodings that a model owns, and the handles that its attentions hold instead.

A position is shared by spec address, never because two specs are equal: `main` is the model's, `<block name>` that of a block
with a `position` of its own. Where one spec serves several head counts or widths, `-<heads>x<width>` follows the name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NoReturn

from torch import Tensor

from llmkit.core.component import Chosen
from llmkit.core.interfaces.position import Position, PositionHandle, Tables
from llmkit.core.site import Site


class PositionBroker:
    """Answers `site.position` while a model is built: first it only notes what is asked for, then it hands out handles."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.modules: dict[str, Position] = {}
        self.biased = False
        self._asked: dict[str, list[tuple[int, int]]] = {}

    def note(self, name: str) -> Callable[[int, int], PositionHandle]:
        """For a first pass over the blocks, so that names do not depend on the order of layers."""

        def serve(heads: int, width: int) -> PositionHandle:
            asked = self._asked.setdefault(name, [])
            if (heads, width) not in asked:
                asked.append((heads, width))
            return PositionHandle("", 0, _unturned, None)

        return serve

    def serve(self, name: str, chosen: Chosen) -> Callable[[int, int], PositionHandle]:
        """For the real pass: the module is made at the first request and shared by the later ones."""
        offered = chosen.component.offered(chosen.params)

        def serve(heads: int, width: int) -> PositionHandle:
            if not offered & {"rotate", "bias"}:
                return PositionHandle("", 0, _unturned, None)
            key = name if len(self._asked[name]) == 1 else f"{name}-{heads}x{width}"
            if key not in self.modules:
                self.modules[key] = chosen.make(replace(self.site, heads=heads, width=width, layer=0, address=f"model.positions.{name}"))
            self.biased |= "bias" in offered
            return handle(key, self.modules[key], offered, width)

        return serve


def handle(key: str, position: Position, offered: frozenset[str], width: int) -> PositionHandle:
    """What an attention holds: bound to a copy of the position without its tensors, so that those can only travel in tables."""
    bare = _without_tensors(position)
    turned = position.rotary_width(width) if "rotate" in offered else 0
    return PositionHandle(key, turned, bare.rotate, bare.bias if "bias" in offered else None)


def _without_tensors(position: Position) -> Position:
    """A shallow copy that keeps numbers and strings, and says what is wrong where a tensor is read off it."""
    bare = copy.copy(position)
    bare.__dict__.update(_parameters={}, _buffers={}, _modules={})
    bare.__class__ = _bare(type(position))  # type: ignore[arg-type]  # classes are hashable, whatever nn.Module declares
    return bare


@cache
def _bare(cls: type[Position]) -> type[Position]:
    # One class for all handles: a class of its own for every layer would be a compilation of its own for every layer.
    return type(cls.__name__, (_Bare, cls), {})


class _Bare:
    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__}.rotate and .bias run in every attention and may not read self.{name}: "
            "parameters, buffers and modules stay with the model, so return what is needed from `tables`"
        )


def _unturned(x: Tensor, tables: Tables) -> Tensor:
    return x
