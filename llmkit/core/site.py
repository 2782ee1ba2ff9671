"""Where a module sits: the numbers that the model knows, so that no spec repeats them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmkit.core.component import Chosen

if TYPE_CHECKING:
    from llmkit.core.interfaces.position import PositionHandle


def _nowhere(heads: int, width: int) -> PositionHandle:
    raise RuntimeError("this site serves no positions: only an attention inside a model may ask for one")


@dataclass(frozen=True)
class Site:
    """Handed to every module component as `(params, site)`.

    d_model      width of the residual stream
    width        channels of what this component works on: d_model, unless `make` said otherwise; of a position, the head width
    n_layers     blocks in the model
    layer        the index of this block, 0 outside blocks. For initial values only: `forward` may not read it
    max_seq_len  the longest sequence the model is made for
    vocab_size   rows of the embedding
    heads        of a position that serves attentions, their query heads; else 0
    address      where this component sits in the spec, such as `model.block.attention`
    serve        how the model answers `position`; set by the model alone
    """

    d_model: int
    width: int
    n_layers: int
    layer: int
    max_seq_len: int
    vocab_size: int
    heads: int = 0
    address: str = ""
    serve: Callable[[int, int], PositionHandle] = field(default=_nowhere, repr=False, compare=False)

    def make(self, name: str, chosen: Chosen, *, width: int | None = None) -> Any:
        """Build a nested slot at the address below this one: `self.q_norm = site.make("q_norm", params.qk_norm, width=head_width)`."""
        return chosen.make(self._inside(name, width))

    def check(self, name: str, chosen: Chosen, *, width: int | None = None) -> Iterator[str]:
        """What a nested slot says of its place: where a component has one, its own `check` passes it on.

        yield from site.check("qk_norm", self.qk_norm, width=head_width)
        """
        yield from (f"{name}: {message}" for message in chosen.params.check(self._inside(name, width)))

    def position(self, heads: int, width: int) -> PositionHandle:
        """The position encoding of this attention's block, for so many query heads of such a width. Call it in `__init__`."""
        return self.serve(heads, width)

    def _inside(self, name: str, width: int | None) -> Site:
        return replace(self, width=self.width if width is None else width, address=f"{self.address}.{name}")
