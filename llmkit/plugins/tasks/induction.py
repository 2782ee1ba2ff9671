"""Induction: what followed this symbol when it was last here?"""

from __future__ import annotations

import string
from random import Random
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from llmkit.plugins.tasks.task import Answer, Instance, Task

SYMBOLS = string.ascii_letters + string.digits


class Induction(Task):
    """A run of different symbols in random order, and the same run again (Olsson et al. 2022, arXiv 2209.11895):

        q c x a f | q c x a f        answers: c x a f of the second run, each the symbol that follows its forerunner's first appearance

    The run's length is drawn anew for each instance, between `shortest` and `length`, so that no fixed distance answers. Every symbol
    stands once in a run, so that one appearance alone answers. That takes two layers: one that tells a symbol what stood before it, and one
    that looks for it.

    Chance is 1 / symbols. Who reads, but only which symbols have not come again yet, gets (1/(L-1) + ... + 1/1) / (L-1) of a run of
    length L right: 0.22 of 16, for the last ones are few.
    """

    length: PositiveInt = Field(16, ge=2, description="symbols of the longest run, which stands in the text twice")
    shortest: PositiveInt | None = Field(
        None, ge=2, description="symbols of the shortest run; half of `length` unless given", examples=[16]
    )
    symbols: PositiveInt = Field(26, le=len(SYMBOLS), description="how many different symbols there are: of a-z, A-Z, 0-9")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.length > self.symbols:
            raise ValueError(
                f"length {self.length} needs as many different symbols, and there are {self.symbols}; "
                f"raise `symbols` (to {len(SYMBOLS)} at most)"
            )
        if self.least > self.length:
            raise ValueError(f"shortest {self.least} is more than length {self.length}; lower it")
        return self

    @property
    def least(self) -> int:
        """Symbols of the shortest run."""
        return max(self.length // 2, 2) if self.shortest is None else self.shortest

    @property
    def alphabet(self) -> str:
        return SYMBOLS[: self.symbols]

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    def draw(self, random: Random) -> Instance:
        length = random.randint(self.least, self.length)
        run = random.sample(self.alphabet, length)
        return Instance((*run, *run), tuple(Answer(place, length) for place in range(length + 1, 2 * length)))

    def longer(self, factor: int) -> Self:
        length = factor * self.length
        return type(self).model_validate({**self.model_dump(), "length": length, "shortest": length})
