"""Induction: what followed this symbol when it was last here?"""

from __future__ import annotations

import string
from itertools import pairwise
from random import Random
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from llmkit.plugins.tasks.task import Answer, Instance, Task

SYMBOLS = string.ascii_letters + string.digits


class Induction(Task):
    """A run of different symbols in random order, and the same run again (Olsson et al. 2022, arXiv 2209.11895), whole or in pieces:

        q c x a f | q c x a f        answers: c x a f of the second run, each what followed the symbol before it the first time
        q c x a f | a f , q c x      two pieces: answers f, and c x; where a piece begins is chance

    Every symbol stands once in a run, so that one appearance alone answers. The run's length is drawn anew for each instance, between
    `shortest` and `length`, so that no fixed distance answers a whole run. Yet a single layer gets half of it right, for what comes next is
    the first symbol that has not come again; in pieces, that tells nothing. Then it takes two layers: one that tells a symbol what
    stands before it, and one that looks for this.

    Chance is 1 / symbols. Who reads, but only which symbols have not come again yet, gets (1/(L-1) + ... + 1/1) / (L-1) of a run of
    length L right: 0.22 of 16, for the last ones are few.
    """

    length: PositiveInt = Field(16, ge=2, description="symbols of the longest run, which stands in the text twice")
    shortest: PositiveInt | None = Field(
        None, ge=2, description="symbols of the shortest run; half of `length` unless given", examples=[16]
    )
    pieces: PositiveInt = Field(
        1,
        description="pieces that the run is cut into, at random places, to come again in random order; 1 repeats it as it is",
        examples=[4],
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
        if self.pieces >= self.least:
            raise ValueError(f"pieces {self.pieces} leaves no two symbols together in a run of {self.least}; lower it, or raise `shortest`")
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
        cuts = [0, *sorted(random.sample(range(1, length), self.pieces - 1)), length]
        pieces = random.sample(list(pairwise(cuts)), self.pieces)
        again = [place for start, end in pieces for place in range(start, end)]
        answers = [
            Answer(length + index + 1, length + index + 1 - after)
            for index, (before, after) in enumerate(pairwise(again))
            if after == before + 1
        ]
        return Instance((*run, *(run[place] for place in again)), tuple(answers))

    def longer(self, factor: int) -> Self:
        length = factor * self.length
        return type(self).model_validate({**self.model_dump(), "length": length, "shortest": length})
