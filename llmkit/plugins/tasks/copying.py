"""Copying, and selective copying: write again what was written."""

from __future__ import annotations

import string
from random import Random
from typing import Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from llmkit.plugins.tasks.task import Answer, Instance, Task

SYMBOLS = string.ascii_letters + string.digits
BLANK, AGAIN = ".", ":"


class Copying(Task):
    """A string of random symbols, a colon, and the string again (Jelassi et al. 2024, arXiv 2402.01032); with `blanks`, selective copying
    (Gu and Dao 2023, arXiv 2312.00752): dots stand among the symbols at random places, and only the symbols are written again.

        q c c a : q c c a        . q c . . c a . : q c c a        answers: all behind the colon

    The string's length is drawn anew for each instance, between `shortest` and `length`; the number of blanks is always the same. Symbols
    may recur, so that what follows a symbol is not always the same: its place in the string answers.

    Chance is 1 / symbols. Who knows how often each symbol stands in the string, but not in which order, gets a little more than 1 / L of a
    string of length L at its beginning, and the last ones right, crossing out.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"length": 4, "separator": " "}]})

    length: PositiveInt = Field(16, description="symbols of the longest string")
    shortest: PositiveInt | None = Field(None, description="symbols of the shortest string; half of `length` unless given", examples=[16])
    symbols: PositiveInt = Field(26, ge=2, le=len(SYMBOLS), description="how many different symbols there are: of a-z, A-Z, 0-9")
    blanks: NonNegativeInt = Field(
        0, description="dots among the symbols, which are not copied: with any, this is selective copying", examples=[6]
    )

    @model_validator(mode="after")
    def _shortest_is_no_longer(self) -> Self:
        if self.least > self.length:
            raise ValueError(f"shortest {self.least} is more than length {self.length}; lower it")
        return self

    @property
    def least(self) -> int:
        """Symbols of the shortest string."""
        return max(self.length // 2, 1) if self.shortest is None else self.shortest

    @property
    def alphabet(self) -> str:
        return SYMBOLS[: self.symbols] + AGAIN + (BLANK if self.blanks else "")

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    def draw(self, random: Random) -> Instance:
        length = random.randint(self.least, self.length)
        string = random.choices(SYMBOLS[: self.symbols], k=length)
        before = length + self.blanks
        places = sorted(random.sample(range(before), length))
        written = [BLANK] * before
        for place, symbol in zip(places, string, strict=True):
            written[place] = symbol
        answers = tuple(Answer(before + 1 + index, before + 1 + index - place) for index, place in enumerate(places))
        return Instance((*written, AGAIN, *string), answers)

    def longer(self, factor: int) -> Self:
        length = factor * self.length
        grown = {"length": length, "shortest": length, "blanks": factor * self.blanks}
        return type(self).model_validate({**self.model_dump(), **grown})
