"""What acme adds to llmkit. Free of torch: the code of each component is imported when something is built."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from llmkit import Component, Kind, Params, hookimpl


class FadingParams(Params):
    """Parameters of `acme.fading`."""

    n_heads: PositiveInt = Field(description="heads, which share the width of the model", examples=[4])
    half_life: float = Field(64.0, gt=0, description="tokens after which the slowest head has forgotten half", examples=[4.0])


class UnitNormParams(Params):
    """Parameters of `acme.unit_norm`."""

    eps: float = Field(1e-6, gt=0, description="added to the mean square, so that a row of zeros stays finite")


class RepetitionParams(Params):
    """Parameters of `acme.repetition`."""

    words: int = Field(8, ge=1, description="words of each document that begin a text to be continued")
    tokens: int = Field(32, ge=1, description="tokens of each continuation", examples=[4])


@hookimpl
def llmkit_components() -> list[Component]:
    """The components of this distribution. Names that are not llmkit's have a prefix."""
    return [
        Component(
            Kind.attention,
            "acme.fading",
            FadingParams,
            "llmkit_acme.fading:FadingAttention",
            "attention without a softmax whose memory fades: its cache never grows",
        ),
        Component(Kind.norm, "acme.unit_norm", UnitNormParams, "llmkit_acme.unit_norm:UnitNorm", "x / rms(x), with one scale"),
        Component(
            Kind.evaluator,
            "acme.repetition",
            RepetitionParams,
            "llmkit_acme.repetition:Repetition",
            "how often greedy text repeats a pair of words",
        ),
    ]
