"""The attentions that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from llmkit.core.component import Chosen, Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.core.slot import Slot


class MHAParams(Params):
    """Every query head has a key and value head of its own."""

    n_heads: PositiveInt = Field(description="query heads", examples=[4])
    head_width: PositiveInt | None = Field(None, description="channels of a head; d_model / n_heads unless given", examples=[6])
    bias: bool | Literal["qkv"] = Field(
        False,
        description="biases: none, on all four projections (and the gate's), or on queries, keys and values only",
        examples=[True, "qkv"],
    )
    window: PositiveInt | None = Field(
        None, description="a token sees itself and the window - 1 tokens before it; all unless given", examples=[3]
    )
    qk_norm: Annotated[Chosen, Slot(Kind.norm)] | None = Field(
        None, description="a norm on queries and one on keys, before they are turned (arXiv 2302.05442); none unless given"
    )
    qk_norm_over: Literal["head", "width"] = Field(
        "head",
        description="what qk_norm normalises: each head alone with one scale for all (Qwen3, Gemma 3), or all heads together (OLMo 2)",
    )
    scale: float | None = Field(
        None, gt=0, description="what scores are multiplied by; 1 / sqrt(head width) unless given (query_pre_attn_scalar^-0.5 in Gemma)"
    )
    softcap: float | None = Field(
        None, gt=0, description="scores become c tanh(scores / c) (Gemma 2, arXiv 2408.00118); as they are unless given"
    )
    gate: Literal[False, "head", "channel"] = Field(
        False,
        description="what attention returns is multiplied by sigmoid(gate(x)), one number a head or one a channel, "
        "before the output projection (arXiv 2505.06708)",
    )
    sinks: bool = Field(
        False, description="a learned logit a head that takes part in the softmax and has no value (gpt-oss; arXiv 2309.17453)"
    )

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_heads

    def width(self, d_model: int) -> int:
        """Channels of a head in a model of this width."""
        return self.head_width or d_model // self.n_heads

    def check(self, site: Site) -> Iterable[str]:
        """Heads must share the model's width evenly, unless their width is given; and what the nested norms say of theirs."""
        if self.head_width is None and site.d_model % self.n_heads:
            yield (f"d_model {site.d_model} is not divisible by n_heads {self.n_heads}; change one of them, or give head_width")
        elif self.qk_norm is not None:
            for width in dict.fromkeys(self.normed(site.d_model, heads) for heads in (self.n_heads, self.kv_heads)):
                yield from site.check("qk_norm", self.qk_norm, width=width)

    def normed(self, d_model: int, heads: int) -> int:
        """Channels that `qk_norm` normalises together, of so many heads."""
        return self.width(d_model) * (heads if self.qk_norm_over == "width" else 1)

    def widened(self, factor: int) -> Self:
        """More heads of the same width."""
        return self.model_copy(update={"n_heads": self.n_heads * factor})

    @model_validator(mode="after")
    def _there_is_something_to_norm(self) -> Self:
        if self.qk_norm_over == "width" and self.qk_norm is None:
            raise ValueError("qk_norm_over says what qk_norm normalises, and there is none; give qk_norm, such as rmsnorm, or leave it out")
        return self


class GQAParams(MHAParams):
    """Several query heads share a key and value head."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"qk_norm": "rmsnorm", "softcap": 2.0, "gate": "head"},
                {"qk_norm": {"type": "layernorm"}, "qk_norm_over": "width", "sinks": True, "scale": 0.3, "window": 3},
                {"gate": "channel", "bias": True, "sinks": True},
            ]
        }
    )

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


class MLAParams(Params):
    """Keys and values of all heads are made from one narrow latent a token, and only that is cached, with one turned key."""

    n_heads: PositiveInt = Field(description="heads", examples=[4])
    q_lora_rank: PositiveInt | None = Field(
        None, description="channels of the latent that queries are made from; queries come straight from x unless given", examples=[12]
    )
    kv_lora_rank: PositiveInt = Field(description="channels of the latent that keys and values are made from; cached", examples=[16])
    nope_head_width: PositiveInt = Field(description="channels of a head's queries and keys that no position turns", examples=[6])
    rope_head_width: PositiveInt = Field(
        description="channels of a head that are turned; their key is one for all heads, and cached", examples=[4]
    )
    value_head_width: PositiveInt = Field(description="channels of a head's values", examples=[8, 12])
    norm: Annotated[Chosen, Slot(Kind.norm)] = Field(description="the norms of the latents; rmsnorm in DeepSeek", examples=["rmsnorm"])
    scale: float | None = Field(
        None, gt=0, description="what scores are multiplied by; 1 / sqrt(nope_head_width + rope_head_width) unless given", examples=[0.5]
    )

    def width(self, d_model: int) -> int:
        """Channels of a head that its position sees."""
        return self.rope_head_width

    def check(self, site: Site) -> Iterable[str]:
        """What the norms say of their place: the latents."""
        for rank in dict.fromkeys((self.kv_lora_rank, self.q_lora_rank or self.kv_lora_rank)):
            yield from site.check("norm", self.norm, width=rank)

    def widened(self, factor: int) -> Self:
        """More heads of the same widths, and latents as much wider."""
        rank = self.q_lora_rank and self.q_lora_rank * factor
        return self.model_copy(update={"n_heads": self.n_heads * factor, "q_lora_rank": rank, "kv_lora_rank": self.kv_lora_rank * factor})


class DifferentialParams(Params):
    """Every head attends twice, and what both ways have in common is subtracted."""

    n_heads: PositiveInt = Field(description="heads; each has two softmaxes, so that half as many as usual cost as much", examples=[2])
    n_kv_heads: PositiveInt | None = Field(
        None, description="key and value heads, each with two keys; n_heads, a multiple of it, unless given", examples=[1]
    )
    head_width: PositiveInt | None = Field(
        None, description="channels of each query and key; values have twice as many. d_model / (2 n_heads) unless given", examples=[6]
    )
    norm: Annotated[Chosen, Slot(Kind.norm)] = Field(
        description="the norm of what each head returns; rmsnorm in the paper", examples=["rmsnorm"]
    )
    window: PositiveInt | None = Field(
        None, description="a token sees itself and the window - 1 tokens before it; all unless given", examples=[3]
    )

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_kv_heads or self.n_heads

    def width(self, d_model: int) -> int:
        """Channels of each query and key in a model of this width."""
        return self.head_width or d_model // (2 * self.n_heads)

    def check(self, site: Site) -> Iterable[str]:
        """Heads must share the model's width evenly, unless their width is given; and what the norm says of its place."""
        if self.head_width is None and site.d_model % (2 * self.n_heads):
            yield f"d_model {site.d_model} is not divisible by 2 n_heads = {2 * self.n_heads}; change one of them, or give head_width"
        else:
            yield from site.check("norm", self.norm, width=2 * self.width(site.d_model))

    def widened(self, factor: int) -> Self:
        """More heads of the same width, in groups as large as before."""
        shared = self.n_kv_heads and self.n_kv_heads * factor
        return self.model_copy(update={"n_heads": self.n_heads * factor, "n_kv_heads": shared})

    @model_validator(mode="after")
    def _groups_are_even(self) -> Self:
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}; change one of them")
        return self


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
        Component(
            Kind.attention,
            "mla",
            MLAParams,
            "llmkit.plugins.attention.mla:LatentAttention",
            "keys and values from a narrow latent, which alone is cached (DeepSeek-V2, arXiv 2405.04434)",
            offers=offers,
        ),
        Component(
            Kind.attention,
            "differential",
            DifferentialParams,
            "llmkit.plugins.attention.differential:DifferentialAttention",
            "the difference of two softmaxes, so that noise cancels (arXiv 2410.05258)",
            offers=offers,
        ),
    ]
