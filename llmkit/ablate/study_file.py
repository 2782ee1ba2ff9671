"""A study as it is written: its keys, their types and what they are. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from llmkit.core.spec import Part

Match = Literal["params", "flops", "tokens", "none"]

TRAINING_METRICS = ("val_bits_per_byte", "val_loss")
"""What every run records; any other metric is `EVALUATOR.METRIC`."""

FIRST_TUNING_SEED = 10_000
"""Seeds that are tuned on are never those that are judged."""

Count = Annotated[int, Field(strict=True, ge=1)]
Seeds = Count | Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
Number = Annotated[float, Field(strict=True)]
Choices = dict[str, str]


class StudyFile(Part):
    """A study as it is written."""

    llmkit: Literal[1] = Field(1, description="version of the form")
    name: str = Field(min_length=1, description="the study's name; the file's stem unless given")
    extends: str | dict[str, Any] = Field(
        description="the spec that every arm is laid over: a path from the study's file on, recipe:NAME, or a spec written here"
    )
    axes: dict[str, dict[str, dict[str, Any] | None]] = Field(
        min_length=1, description="axis -> alternative -> {address: value}; an empty alternative is the spec as it is"
    )
    arms: dict[str, Choices] | list[Choices] | None = Field(
        None, description="the arms by their alternatives, a mapping with names or a list; every combination of the axes unless given"
    )
    baseline: str | Choices = Field(description="what every other arm is compared with: {axis: alternative}, or the name of an arm")
    seeds: Seeds = Field(5, description="how many seeds each arm is trained with, or which")
    match: Match = Field("none", description="what every arm has as much of as the baseline: params, flops (a token), tokens, or none")
    dial: str | list[str] | None = Field(
        None, description="the addresses of whole numbers that are turned until an arm matches; d_ff of every block unless given"
    )
    tune: dict[str, Annotated[list[Any], Field(min_length=2)]] = Field(
        default_factory=dict, description="address -> values that each arm is tried with, on seeds of their own"
    )
    tune_seeds: Seeds = Field(2, description="how many seeds each setting is tried on, or which")
    tune_arms: list[str] | None = Field(None, description="the arms that are tuned; all unless given")
    metric: str = Field("val_bits_per_byte", description="what is judged: val_bits_per_byte, val_loss, or EVALUATOR.METRIC")
    higher_is_better: bool = Field(False, description="whether more of the metric is better")
    equivalence: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="a difference of the metric that is called none; no arm is called equivalent without it"
    )
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.05, description="how often an arm that does not differ may be called better or worse"
    )
    power: Annotated[Number, Field(gt=0.5, lt=1)] = Field(0.8, description="how surely the smallest resolvable effect is to be found")
    waive: list[str] = Field(
        default_factory=list, description="confounders that are accepted: by what they are called, or by an address that differs"
    )


def seeds_of(given: int | Sequence[int], first: int = 0) -> tuple[int, ...]:
    """Which seeds are meant: those given, or so many from the first on."""
    return tuple(range(first, first + given)) if isinstance(given, int) else tuple(given)
