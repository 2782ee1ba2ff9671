"""The position encodings that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.core.site import Site


class NoScaling(Params):
    """The frequencies as they are."""

    type: Literal["none"] = Field("none", description="frequencies as they are")


class LinearScaling(Params):
    """Position interpolation: every frequency divided by the factor (arXiv 2306.15595)."""

    type: Literal["linear"] = Field("linear", description="every frequency divided by the factor")
    factor: float = Field(ge=1, description="how much longer the context became")


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


def _by_name(value: Any) -> Any:
    """`scaling: none` is `scaling: {type: none}`, as in every slot."""
    return {"type": value} if isinstance(value, str) else value


Scaling = Annotated[
    Annotated[NoScaling | LinearScaling | Llama3Scaling | YarnScaling, Field(discriminator="type")], BeforeValidator(_by_name)
]


class RopeParams(Params):
    """Rotary position embedding."""

    theta: float = Field(10000.0, gt=0, description="the base: channel pair i turns by theta^(-2i/width) radians a token")
    layout: Literal["half", "interleaved"] = Field(
        "half",
        description="which channels are a pair: i and i + width/2 (Hugging Face), or 2i and 2i + 1 (the paper, Meta's files)",
        examples=["interleaved"],
    )
    scaling: Scaling = Field(
        NoScaling(),
        description="how frequencies change for a longer context: none, linear, llama3 or yarn",
        examples=[
            {"type": "linear", "factor": 4.0},
            {"type": "llama3", "factor": 8.0, "original_max_seq_len": 16},
            {"type": "yarn", "factor": 4.0, "original_max_seq_len": 8},
        ],
    )

    def check(self, site: Site) -> Iterable[str]:
        """Channels turn in pairs."""
        if site.heads and site.width % 2:
            yield f"a head of {site.width} channels cannot be turned in pairs; make its width even"


class LearnedParams(Params):
    """One learned vector a position, added to the embeddings."""


class SinusoidalParams(Params):
    """Sines and cosines of geometric wavelengths, added to the embeddings."""

    theta: float = Field(10000.0, gt=0, description="the base of the wavelengths")


class AlibiParams(Params):
    """A penalty on the scores that grows with distance, at a slope for every head."""


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
            "none",
            NoPositionParams,
            "llmkit.plugins.positions.identity:NoPosition",
            "no encoding: the causal mask alone tells order (arXiv 2305.19466)",
        ),
    ]
