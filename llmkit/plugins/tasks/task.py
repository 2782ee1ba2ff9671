"""What a synthetic task is: instances drawn from a seed, of which a quarter is never written by any source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import NamedTuple, Self

from pydantic import Field

from llmkit.core.component import Params
from llmkit.core.errors import UserError

HELD_OUT = 0.25
"""The part of all instances that only probes ask."""

TRIES = 10_000
"""Draws for one instance of the wanted side, before the task is said to have none left there."""


class Answer(NamedTuple):
    """A symbol of an instance that is determined by what stands before it.

    place     its index among the symbols
    distance  how many symbols before it the one stands that determines it
    options   the symbols that a model chooses among; empty where it chooses from its whole vocabulary
    """

    place: int
    distance: int
    options: tuple[str, ...] = ()


class Instance(NamedTuple):
    """One exercise: symbols, a character each, and those of them that are answers, in order."""

    symbols: tuple[str, ...]
    answers: tuple[Answer, ...]

    def text(self, separator: str = "") -> str:
        """The symbols, each behind a separator."""
        return "".join(separator + symbol for symbol in self.symbols)

    def before(self, place: int, separator: str = "") -> str:
        """The text up to the symbol at a place, its separator included: the context that is to be continued with the symbol itself."""
        return Instance(self.symbols[:place], ()).text(separator) + separator


class Task(Params):
    """A family of instances. A task says how one is drawn, what a longer one is, and what guessing gets right.

    Every symbol is a printable ASCII character: one token of `bytes`. With a tokenizer that merges characters or cuts words, take a
    space as the separator: published byte-pair vocabularies have a letter, a digit, a bracket with the space before it as one token.
    Where a symbol is several tokens, an answer is right where each of them is. A tokenizer that folds case makes two symbols one:
    the probes refuse it.
    """

    separator: str = Field(
        "",
        description="what stands before every symbol: nothing where a character is a token (bytes), a space where words are cut (bpe)",
    )

    @property
    def alphabet(self) -> str:
        """Every symbol that an instance may have."""
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """The accuracy of who knows which symbols are answers, and reads nothing."""
        raise NotImplementedError

    def draw(self, random: Random) -> Instance:
        """An instance."""
        raise NotImplementedError

    def longer(self, factor: int) -> Self:
        """The same task at `factor` times its greatest length. `ValidationError` where its alphabet has too few symbols for it."""
        raise NotImplementedError


def instances(task: Task, seed: int, *, held_out: bool, indices: Iterator[int] | range) -> Iterator[Instance]:
    """Instance `i` of a seed for every index: of those that training may see, or of those that are held out.

    On which side an instance lies is decided by its symbols alone, so that no seed, separator or number of documents ever makes one of
    both. `UserError` where the task is so small that a side has none.
    """
    for index in indices:
        random = Random(f"{'held out' if held_out else 'training'} {seed} {index}")
        drawn = (task.draw(random) for _ in range(TRIES))
        found = next((one for one in drawn if is_held_out(one) == held_out), None)
        if found is None:
            side = "to hold out" if held_out else "to train on"
            raise UserError(
                f"the task {task!r} has too few different instances: none is left {side}; make it longer, or its alphabet larger"
            )
        yield found


def asked(task: Task, seed: int, number: int) -> list[Instance]:
    """The first so many held-out instances of a seed."""
    return list(instances(task, seed, held_out=True, indices=range(number)))


def is_held_out(instance: Instance) -> bool:
    """Whether no source ever writes this instance: the hash of its symbols, read as a number in [0, 1), is below `HELD_OUT`."""
    digest = hashlib.sha256(b"held out: " + instance.text().encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT * 2**64
