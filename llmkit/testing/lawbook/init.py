"""Laws of initialisations."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from llmkit.core.interfaces.init import Init, Weight
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

LAYERS, WIDTH = 3, 64


def values_have_the_deviation_that_it_says(subject: Subject) -> None:
    """What is drawn is fp32 on the CPU, of the weight's shape, around zero, and its deviation is `std`, above 0 and finite."""
    init: Init = subject.make()
    for weight in _weights():
        std = init.std(weight)
        if not (math.isfinite(std) and std > 0):
            raise LawBroken(f"the deviation of {weight.name} is {std}")
        value = init.draw(weight, torch.Generator().manual_seed(0))
        if value.shape != weight.shape or value.dtype is not torch.float32 or value.device.type != "cpu":
            found = f"{tuple(value.shape)} {value.dtype} on {value.device}"
            raise LawBroken(f"the value of {weight.name} is {found}, not {tuple(weight.shape)} fp32 on the CPU")
        # Of n numbers the mean strays by std / sqrt(n) and their deviation by less: five times that is no chance. 3% more for a cut-off.
        stray = 5 * std / math.sqrt(value.numel())
        if abs(float(value.mean())) > stray or abs(float(value.std()) - std) > stray + 0.03 * std:
            found = f"{value.mean():.2e} and deviation {value.std():.3e}"
            raise LawBroken(f"the values of {weight.name} have mean {found}, not 0 and {std:.3e}")


def values_come_from_the_generator_alone(subject: Subject) -> None:
    """The same generator gives the same value whatever was drawn before, and torch's own stream is left as it was."""
    init: Init = subject.make()
    weight = next(_weights())
    first = init.draw(weight, torch.Generator().manual_seed(7))
    torch.rand(3)
    state = torch.get_rng_state()
    if not torch.equal(init.draw(weight, torch.Generator().manual_seed(7)), first):
        raise LawBroken("two generators with seed 7 give two values")
    if not torch.equal(torch.get_rng_state(), state):
        raise LawBroken("drawing a value moves torch's own random state")


def factors_are_positive(subject: Subject) -> None:
    """The factors on learning rates and on the logits are finite and above 0."""
    init: Init = subject.make()
    factors = [("logits", init.logit_scale(WIDTH)), *((weight.name, init.learning_rate(weight)) for weight in _weights())]
    for name, factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise LawBroken(f"the factor of {name} is {factor}")


def _weights() -> Iterator[Weight]:
    """One of every sort: within blocks and outside, a branch's end or not, stacked or not."""
    for layer in range(LAYERS):
        for residual in (False, True):
            for shape in ((WIDTH, WIDTH), (WIDTH, 3 * WIDTH), (2, WIDTH, WIDTH)):
                name = f"blocks.{layer}.{'end' if residual else 'start'}.weight {shape}"
                yield Weight(name, torch.Size(shape), "matrix", residual, layer, LAYERS, WIDTH)
    yield Weight("embedding.weight", torch.Size((256, WIDTH)), "embedding", False, None, LAYERS, WIDTH)
    yield Weight("head.weight", torch.Size((256, WIDTH)), "head", False, None, LAYERS, WIDTH)


LAWS = (Law(values_have_the_deviation_that_it_says), Law(values_come_from_the_generator_alone), Law(factors_are_positive))
