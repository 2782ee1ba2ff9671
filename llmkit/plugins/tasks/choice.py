"""A task as a parameter: one of all, by its name, as `task: mqar` or `task: {type: mqar, pairs: 16}`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from llmkit.plugins.tasks.copying import Copying
from llmkit.plugins.tasks.dyck import Dyck
from llmkit.plugins.tasks.induction import Induction
from llmkit.plugins.tasks.mqar import Mqar


class NamedInduction(Induction):
    """Induction, by name."""

    type: Literal["induction"] = Field("induction", description="a run of symbols, and the same run again")


class NamedMqar(Mqar):
    """Multi-query associative recall, by name."""

    type: Literal["mqar"] = Field("mqar", description="keys with values, then keys that ask for them")


class NamedCopying(Copying):
    """Copying, by name."""

    type: Literal["copying"] = Field("copying", description="a string, and the string again")


class NamedDyck(Dyck):
    """A Dyck language, by name."""

    type: Literal["dyck"] = Field("dyck", description="balanced brackets of several kinds")


def _by_name(value: Any) -> Any:
    """`task: mqar` is `task: {type: mqar}`, as in every slot."""
    return {"type": value} if isinstance(value, str) else value


TaskChoice = Annotated[
    Annotated[NamedInduction | NamedMqar | NamedCopying | NamedDyck, Field(discriminator="type")], BeforeValidator(_by_name)
]
