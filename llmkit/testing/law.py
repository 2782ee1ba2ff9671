"""What a law is, and which laws each kind has."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from llmkit.core.kinds import Kind
from llmkit.testing.subject import Subject


class LawBroken(AssertionError):
    """A component breaks a law: a sentence, and the smallest input that shows it."""


@dataclass(frozen=True)
class Law:
    """A law: a function that takes a `Subject` and raises `LawBroken`; the first line of its docstring is its statement.

    combined  whether it is proved beside every partner that the component's traits allow, not beside the first alone
    once      whether it is about the component as such, so that other parameters say nothing more
    """

    prove: Callable[[Subject], None]
    combined: bool = False
    once: bool = False

    @property
    def name(self) -> str:
        """The function's name."""
        return self.prove.__name__

    @property
    def statement(self) -> str:
        """What holds, in one sentence."""
        return inspect.getdoc(self.prove).splitlines()[0]  # type: ignore[union-attr]


def laws(kind: Kind | str) -> list[Law]:
    """Every law of a kind: those of all components, those of its place in a model, its own. Imports torch for most kinds."""
    kind = Kind(kind)
    modules = [importlib.import_module(f"llmkit.testing.lawbook.{name}") for name in _MODULES[kind]]
    return [law for module in modules for law in module.LAWS]


_MODULES = {
    Kind.tokenizer: ("component", "tokenizer"),
    Kind.position: ("component", "decoder", "position"),
    Kind.attention: ("component", "decoder", "attention"),
    Kind.norm: ("component", "decoder", "norm"),
    Kind.ffn: ("component", "decoder", "ffn"),
    Kind.init: ("component", "init"),
    Kind.optimizer: ("component", "optimizer"),
    Kind.schedule: ("component", "schedule"),
    Kind.objective: ("component", "objective"),
    Kind.evaluator: ("component", "evaluator"),
    Kind.source: ("component", "source"),
    Kind.extractor: ("component", "extractor"),
    Kind.filter: ("component", "filter"),
    Kind.deduplicator: ("component", "deduplicator"),
    Kind.mixer: ("component", "mixer"),
}
