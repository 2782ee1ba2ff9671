"""Multi-query associative recall: which value stood behind this key?"""

from __future__ import annotations

import string
from random import Random
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from llmkit.plugins.tasks.task import Answer, Instance, Task

KEYS = string.ascii_lowercase + string.digits
VALUES = string.ascii_uppercase


class Mqar(Task):
    """Multi-query associative recall (Arora et al. 2023, Zoology, arXiv 2312.04927): pairs of a key and a value, then keys again, each
    with its value:

        a N  k C  x C  7 Q | x C  7 Q  a N  k C        answers: the values of the second part

    Keys (a-z, 0-9) differ from each other and from values (A-Z), which may recur. Each query's key stands exactly once in the pairs and
    in no earlier query, unless each is asked several `times`; queries come in random order.

    Chance is 1 / values. Who knows which values the pairs have, but not whose they are, gets about 1 / pairs, and, crossing out what
    was asked already, (1/P + 1/(P-1) + ... + 1/(P-Q+1)) / Q of P pairs and Q queries: 0.34 of 8 and 8, 0.21 of 16 and 16,
    and more the fewer values there are, for then some recur. Asked several times, nothing can be crossed out.
    """

    pairs: PositiveInt = Field(8, description="pairs of a key and its value, at most")
    queries: PositiveInt | None = Field(None, description="keys that come again; all unless given", examples=[2])
    times: PositiveInt = Field(1, description="how many times each of them comes again; 1 is the literature's", examples=[2])
    keys: PositiveInt = Field(26, le=len(KEYS), description="how many different keys there are: of a-z, 0-9")
    values: PositiveInt = Field(26, ge=2, le=len(VALUES), description="how many different values there are: of A-Z")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.pairs > self.keys:
            raise ValueError(
                f"pairs {self.pairs} needs as many different keys, and there are {self.keys}; raise `keys` (to {len(KEYS)} at most)"
            )
        if self.asked > self.pairs:
            raise ValueError(f"queries {self.queries} is more than pairs {self.pairs}; lower it")
        return self

    @property
    def asked(self) -> int:
        """Keys that come again."""
        return self.pairs if self.queries is None else self.queries

    @property
    def alphabet(self) -> str:
        return KEYS[: self.keys] + VALUES[: self.values]

    @property
    def chance(self) -> float:
        return 1 / self.values

    def draw(self, random: Random) -> Instance:
        keys = random.sample(KEYS[: self.keys], self.pairs)
        values = random.choices(VALUES[: self.values], k=self.pairs)
        queries = random.sample(range(self.pairs), self.asked) * self.times
        random.shuffle(queries)
        order = [*range(self.pairs), *queries]
        symbols = tuple(symbol for index in order for symbol in (keys[index], values[index]))
        places = range(2 * self.pairs + 1, len(symbols), 2)
        return Instance(symbols, tuple(Answer(place, place - 2 * index - 1) for place, index in zip(places, queries, strict=True)))

    def longer(self, factor: int) -> Self:
        return type(self).model_validate({**self.model_dump(), "pairs": factor * self.pairs, "queries": factor * self.asked})
