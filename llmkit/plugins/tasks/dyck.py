"""Dyck languages: which bracket is to be closed next?"""

from __future__ import annotations

from random import Random
from typing import Self

from pydantic import Field, PositiveInt, field_validator

from llmkit.plugins.tasks.task import Answer, Instance, Task

OPENING, CLOSING = "([{<", ")]}>"


class Dyck(Task):
    """Balanced brackets of k kinds, nested to a depth of at most m: Dyck-(k, m) (Hewitt et al. 2020, arXiv 2010.07515):

        ( [ ] ( ) ) [ [ ] ]        answers: every closing bracket, among the closing ones

    Whether a bracket closes next is chance (unless the depth or the length leaves no choice), which one then closes is determined: the
    kind of the latest that is open. So a model chooses among the closing brackets only, as in Hewitt et al. A step opens or closes with
    probability 1/2 where both are possible; kinds are uniform.

    Chance is 1 / kinds. Who looks one bracket back gets those right that close what was just opened: `accuracy_nested` leaves them out.
    """

    length: PositiveInt = Field(32, description="brackets of a word: an even number")
    kinds: PositiveInt = Field(4, ge=2, le=len(OPENING), description="how many kinds of brackets there are: of (), [], {}, <>")
    depth: PositiveInt = Field(4, description="how many may be open at once")

    @field_validator("length")
    @classmethod
    def _every_bracket_is_closed(cls, length: int) -> int:
        if length % 2:
            raise ValueError(f"length {length} is odd, and every bracket that opens is closed; make it even")
        return length

    @property
    def alphabet(self) -> str:
        return OPENING[: self.kinds] + CLOSING[: self.kinds]

    @property
    def chance(self) -> float:
        return 1 / self.kinds

    def draw(self, random: Random) -> Instance:
        symbols: list[str] = []
        answers: list[Answer] = []
        still_open: list[tuple[int, int]] = []
        for place in range(self.length):
            if self._opens(len(still_open), self.length - place, random):
                kind = random.randrange(self.kinds)
                still_open.append((place, kind))
                symbols.append(OPENING[kind])
                continue
            since, kind = still_open.pop()
            symbols.append(CLOSING[kind])
            answers.append(Answer(place, place - since, tuple(CLOSING[: self.kinds])))
        return Instance(tuple(symbols), tuple(answers))

    def _opens(self, depth: int, left: int, random: Random) -> bool:
        if depth == 0:
            return True
        return depth < min(self.depth, left) and random.random() < 0.5

    def longer(self, factor: int) -> Self:
        return type(self).model_validate({**self.model_dump(), "length": factor * self.length})
