"""The position encodings that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.core.site import Site


class NoScaling(Params):
    """The frequencies as they are."""

    type: Literal["none"] = Field("none", description="frequencies as they are")


class LinearScaling(Params):
    """Position interpolation: every frequency divided by the factor, as if positions lay closer (arXiv 2306.15595)."""

    type: Literal["linear"] = Field("linear", description="position interpolation: every frequency divided by the factor")
    factor: float = Field(ge=1, description="how much longer the context became")


class NTKScaling(Params):
    """NTK-aware: a larger base, so that the slowest pair is divided by the factor and the fastest is kept (arXiv 2309.00071, 3.1)."""

    type: Literal["ntk"] = Field("ntk", description="a base larger by factor^(R/(R-2)), for every length")
    factor: float = Field(ge=1, description="what the longest wavelength is multiplied by")


class DynamicScaling(Params):
    """Dynamic NTK: plain up to the original context, and beyond it a base that grows with the text (arXiv 2309.00071, B.2)."""

    type: Literal["dynamic"] = Field("dynamic", description="a base that grows with the text, once it is longer than the original context")
    factor: float = Field(ge=1, description="how fast the base grows: by (factor length / original_max_seq_len - factor + 1)^(R/(R-2))")
    original_max_seq_len: PositiveInt = Field(description="the context of pretraining, in tokens; a cache for more is refused")


class Llama3Scaling(Params):
    """Llama 3.1: long wavelengths divided by the factor, short ones kept, a smooth step between (arXiv 2407.21783)."""

    type: Literal["llama3"] = Field("llama3", description="Llama 3.1's scaling by wavelength")
    factor: float = Field(8.0, ge=1, description="what the longest wavelengths are divided by")
    low_freq_factor: float = Field(1.0, gt=0, description="wavelengths above original_max_seq_len / this are divided")
    high_freq_factor: float = Field(4.0, gt=0, description="wavelengths below original_max_seq_len / this are kept")
    original_max_seq_len: PositiveInt = Field(8192, description="the context of pretraining, in tokens")

    @model_validator(mode="after")
    def _band_has_a_width(self) -> Self:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(f"high_freq_factor {self.high_freq_factor} must exceed low_freq_factor {self.low_freq_factor}; raise it")
        return self


class YarnScaling(Params):
    """YaRN: interpolation by frequency, and a temperature on the scores (Peng et al. 2023, arXiv 2309.00071)."""

    type: Literal["yarn"] = Field("yarn", description="interpolation by frequency, with a temperature")
    factor: float = Field(ge=1, description="how much longer the context became")
    original_max_seq_len: PositiveInt = Field(description="the context of pretraining, in tokens")
    beta_fast: float = Field(32.0, gt=0, description="rotations over the original context above which a frequency is kept")
    beta_slow: float = Field(1.0, gt=0, description="rotations over the original context below which it is divided")
    attention_factor: float | None = Field(None, gt=0, description="what cos and sin are multiplied by; 0.1 ln(factor) + 1 unless given")
    truncate: bool = Field(True, description="whether the first and the last pair that are blended are rounded outwards to whole ones")


class LongRopeScaling(Params):
    """LongRoPE: each pair divided by a factor of its own, found by a search, for short and for long texts (arXiv 2402.13753; Phi-3)."""

    type: Literal["longrope"] = Field("longrope", description="a factor for every channel pair, others for long texts than for short ones")
    short_factor: list[PositiveFloat] = Field(description="what each pair is divided by in a text within the original context")
    long_factor: list[PositiveFloat] = Field(description="what each pair is divided by in a longer text")
    original_max_seq_len: int = Field(
        gt=1, description="the context of pretraining, in tokens; a cache for more is refused where `use` is `fitting`"
    )
    factor: float = Field(1.0, ge=1, description="how much longer the context became: max_seq_len / original_max_seq_len, as a rule")
    attention_factor: float | None = Field(
        None, gt=0, description="what cos and sin are multiplied by; sqrt(1 + ln(factor) / ln(original_max_seq_len)) unless given"
    )
    use: Literal["fitting", "short", "long"] = Field(
        "fitting", description="the factors that fit the length of the text, or always the same ones, so that a cache may be of any length"
    )

    @model_validator(mode="after")
    def _as_many_short_as_long(self) -> Self:
        if len(self.short_factor) != len(self.long_factor):
            raise ValueError(
                f"short_factor has {len(self.short_factor)} factors and long_factor {len(self.long_factor)}; give one a pair in each"
            )
        return self


def _by_name(value: Any) -> Any:
    """`scaling: none` is `scaling: {type: none}`, as in every slot."""
    return {"type": value} if isinstance(value, str) else value


Scaling = Annotated[
    Annotated[
        NoScaling | LinearScaling | NTKScaling | DynamicScaling | Llama3Scaling | YarnScaling | LongRopeScaling, Field(discriminator="type")
    ],
    BeforeValidator(_by_name),
]


class RopeParams(Params):
    """Rotary position embedding."""

    theta: float = Field(10000.0, gt=0, description="the base: channel pair i turns by theta^(-2i/width) radians a token")
    layout: Literal["half", "interleaved"] = Field(
        "half",
        description="which channels are a pair: i and i + width/2 (Hugging Face), or 2i and 2i + 1 (the paper, Meta's files)",
        examples=["interleaved"],
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="how much of a head is turned, its first channels: below 1, partial rotary (GPT-NeoX 0.25, Phi, StableLM)",
        examples=[0.5],
    )
    scaling: Scaling = Field(
        NoScaling(),
        description="how frequencies change for a longer context: none, linear (interpolation), ntk, dynamic, llama3, yarn or longrope",
        # They suit the small model of the laws: heads of 8 channels, and texts of up to 12 tokens, some beyond the original context.
        examples=[
            {"type": "linear", "factor": 4.0},
            {"type": "ntk", "factor": 4.0},
            {"type": "dynamic", "factor": 2.0, "original_max_seq_len": 10},
            {"type": "llama3", "factor": 8.0, "original_max_seq_len": 16},
            {"type": "yarn", "factor": 4.0, "original_max_seq_len": 8},
            {
                "type": "longrope",
                "short_factor": [1.0, 1.5, 2.0, 3.0],
                "long_factor": [1.0, 3.0, 6.0, 8.0],
                "original_max_seq_len": 10,
                "factor": 4.0,
            },
        ],
    )

    def rotary_width(self, width: int) -> int:
        """How many leading channels of a head of `width` channels are turned."""
        return int(width * self.fraction)

    def check(self, site: Site) -> Iterable[str]:
        """Channels turn in pairs, and a scaling by pairs has a factor for each."""
        if not site.heads:
            return
        turned = self.rotary_width(site.width)
        part = f"{turned} of {site.width} channels (fraction {self.fraction})" if self.fraction != 1 else f"{turned} channels"
        if turned % 2 or not turned:
            yield f"a head of {part} cannot be turned in pairs; make what is turned even, by its width or by `fraction`"
            return
        scaling = self.scaling
        if isinstance(scaling, NTKScaling | DynamicScaling) and turned < 4:
            yield f"a head of {part} is one pair, whose frequency no base changes: scaling {scaling.type!r} would do nothing; take another"
        if isinstance(scaling, LongRopeScaling) and 2 * len(scaling.short_factor) != turned:
            yield (
                f"scaling longrope has {len(scaling.short_factor)} factors, and a head of {part} is {turned // 2} pairs; "
                "give a factor for every pair"
            )


class LearnedParams(Params):
    """One learned vector a position, added to the embeddings."""


class SinusoidalParams(Params):
    """Sines and cosines of geometric wavelengths, added to the embeddings."""

    theta: float = Field(10000.0, gt=0, description="the base of the wavelengths")


class AlibiParams(Params):
    """A penalty on the scores that grows with distance, at a slope for every head."""


class T5Params(Params):
    """A learned bias on the scores for every head and every bucket of distances."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"buckets": 6, "max_distance": 20}]})

    buckets: int = Field(32, ge=2, description="biases a head: half of them for one distance each, the others for ever wider ranges")
    max_distance: PositiveInt = Field(128, description="distances from here on share the last bucket")

    @model_validator(mode="after")
    def _ranges_have_room(self) -> Self:
        if self.max_distance <= self.buckets // 2:
            raise ValueError(
                f"max_distance {self.max_distance} must exceed {self.buckets // 2}, the distances that have a bucket of their own "
                f"of {self.buckets}; raise it, or take fewer buckets"
            )
        return self


class NoPositionParams(Params):
    """No position encoding."""


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    rotates, biases, embeds = frozenset({"rotate"}), frozenset({"bias"}), frozenset({"embed"})
    return [
        Component(
            Kind.position,
            "rope",
            RopeParams,
            "llmkit.plugins.positions.rope:Rope",
            "queries and keys turned by their position (arXiv 2104.09864)",
            needs=rotates,
            offers=rotates,
        ),
        Component(
            Kind.position,
            "learned",
            LearnedParams,
            "llmkit.plugins.positions.learned:Learned",
            "a learned vector a position, up to max_seq_len (GPT-2)",
            offers=embeds | {"bounded"},
        ),
        Component(
            Kind.position,
            "sinusoidal",
            SinusoidalParams,
            "llmkit.plugins.positions.sinusoidal:Sinusoidal",
            "fixed sines and cosines added to the embeddings (arXiv 1706.03762)",
            offers=embeds,
        ),
        Component(
            Kind.position,
            "alibi",
            AlibiParams,
            "llmkit.plugins.positions.alibi:Alibi",
            "scores fall linearly with distance (arXiv 2108.12409)",
            needs=biases,
            offers=biases,
        ),
        Component(
            Kind.position,
            "t5",
            T5Params,
            "llmkit.plugins.positions.t5:T5RelativeBias",
            "a learned bias on the scores by bucket of distances (arXiv 1910.10683)",
            needs=biases,
            offers=biases,
        ),
        Component(
            Kind.position,
            "none",
            NoPositionParams,
            "llmkit.plugins.positions.identity:NoPosition",
            "no encoding: the causal mask alone tells order (arXiv 2305.19466)",
        ),
    ]
