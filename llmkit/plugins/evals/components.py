"""The evaluators that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, field_validator, model_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.plugins.tasks.choice import TaskChoice
from llmkit.plugins.tasks.copying import Copying
from llmkit.plugins.tasks.dyck import Dyck
from llmkit.plugins.tasks.induction import Induction
from llmkit.plugins.tasks.mqar import Mqar


class PerplexityParams(Params):
    """Perplexity takes nothing."""


class Asking(Params):
    """How much a probe asks."""

    instances: PositiveInt = Field(128, description="how many instances of the task are asked")
    seed: NonNegativeInt = Field(0, description="which instances; none of any seed is ever in a training text")


class InductionParams(Induction, Asking):
    """Parameters of `induction`: those of its task, and how much is asked."""


class MqarParams(Mqar, Asking):
    """Parameters of `mqar`: those of its task, and how much is asked."""


class CopyingParams(Copying, Asking):
    """Parameters of `copying`: those of its task, and how much is asked."""


class DyckParams(Dyck, Asking):
    """Parameters of `dyck`: those of its task, and how much is asked."""


class LengthExtrapolationParams(Asking):
    """Parameters of `length_extrapolation`."""

    task: TaskChoice = Field(
        description="what is asked: induction, mqar, copying or dyck, with its parameters at the length of training",
        examples=[{"type": "copying", "length": 8}, {"type": "mqar", "pairs": 4}],
    )
    factors: list[PositiveInt] = Field([1, 2, 4], min_length=1, description="how many times as long; each gives accuracy_at_<factor>x")

    @field_validator("factors")
    @classmethod
    def _each_once_in_order(cls, factors: list[int]) -> list[int]:
        return sorted(set(factors))

    @model_validator(mode="after")
    def _is_possible_at_every_factor(self) -> Self:
        for factor in self.factors:
            try:
                self.task.longer(factor)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"at {factor} times the length, {self.task.type}: {reason}") from error
        return self


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    here = "llmkit.plugins.evals"
    return [
        Component(
            Kind.evaluator,
            "perplexity",
            PerplexityParams,
            f"{here}.perplexity:Perplexity",
            "loss, perplexity and bits per byte of the validation text, with standard errors",
        ),
        Component(
            Kind.evaluator,
            "induction",
            InductionParams,
            f"{here}.induction:InductionProbe",
            "random symbols twice over: is the second time expected? (arXiv 2209.11895); asks any model, trained on it or not",
        ),
        Component(
            Kind.evaluator,
            "mqar",
            MqarParams,
            f"{here}.recall:MqarProbe",
            "multi-query associative recall: which value stood behind this key? (arXiv 2312.04927)",
        ),
        Component(
            Kind.evaluator,
            "copying",
            CopyingParams,
            f"{here}.recall:CopyingProbe",
            "copying, or with blanks selective copying, of random symbols (arXiv 2402.01032, 2312.00752)",
        ),
        Component(
            Kind.evaluator,
            "dyck",
            DyckParams,
            f"{here}.dyck:DyckProbe",
            "balanced brackets of several kinds: which one closes? (arXiv 2010.07515)",
        ),
        Component(
            Kind.evaluator,
            "length_extrapolation",
            LengthExtrapolationParams,
            f"{here}.length_extrapolation:LengthExtrapolation",
            "the accuracy of a task at several times the length of training (arXiv 2108.12409)",
        ),
    ]
