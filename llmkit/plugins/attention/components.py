"""The attentions that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.core.site import Site


class MHAParams(Params):
    """Every query head has a key and value head of its own."""

    n_heads: PositiveInt = Field(description="query heads", examples=[4])
    head_width: PositiveInt | None = Field(None, description="channels of a head; d_model / n_heads unless given", examples=[6])
    bias: bool | Literal["qkv"] = Field(
        False, description="biases: none, on all four projections, or on queries, keys and values only", examples=[True, "qkv"]
    )
    window: PositiveInt | None = Field(
        None, description="a token sees itself and the window - 1 tokens before it; all unless given", examples=[3]
    )

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_heads

    def width(self, d_model: int) -> int:
        """Channels of a head in a model of this width."""
        return self.head_width or d_model // self.n_heads

    def check(self, site: Site) -> Iterable[str]:
        """Heads must share the model's width evenly, unless their width is given."""
        if self.head_width is None and site.d_model % self.n_heads:
            yield (f"d_model {site.d_model} is not divisible by n_heads {self.n_heads}; change one of them, or give head_width")

    def widened(self, factor: int) -> Self:
        """More heads of the same width."""
        return self.model_copy(update={"n_heads": self.n_heads * factor})


class GQAParams(MHAParams):
    """Several query heads share a key and value head."""

    n_kv_heads: PositiveInt = Field(description="key and value heads; n_heads must be a multiple", examples=[2])

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_kv_heads

    def widened(self, factor: int) -> Self:
        """More heads of the same width, in groups as large as before."""
        return super().widened(factor).model_copy(update={"n_kv_heads": self.n_kv_heads * factor})

    @model_validator(mode="after")
    def _groups_are_even(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}; change one of them")
        return self


class MQAParams(MHAParams):
    """All query heads share one key and value head."""

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return 1


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    target = "llmkit.plugins.attention.multihead:MultiHeadAttention"
    offers = frozenset({"rotate", "bias"})
    return [
        Component(Kind.attention, "mha", MHAParams, target, "a key and value head for every query head (arXiv 1706.03762)", offers=offers),
        Component(
            Kind.attention, "gqa", GQAParams, target, "a key and value head for a group of query heads (arXiv 2305.13245)", offers=offers
        ),
        Component(Kind.attention, "mqa", MQAParams, target, "one key and value head for all query heads (arXiv 1911.02150)", offers=offers),
    ]
