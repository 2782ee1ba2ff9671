"""A component is data: what it is called, what it takes, and where its code lies. Its code is imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict

from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from llmkit.core.site import Site

Traits: TypeAlias = frozenset[str] | Callable[[Any], Iterable[str]]


class Params(BaseModel):
    """The parameters of a component: frozen, nothing extra, every field with a description.

    A field's description is user documentation: it appears in `plugins show`, in the editor and in the reference.
    Building of the validator is deferred, so that a hundred classes cost nothing at start-up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, validate_default=True)

    def check(self, site: Site) -> Iterable[str]:
        """What is wrong with these parameters at this place, a sentence each: called before anything is built.

        `site` has the numbers of the model (`d_model`, `max_seq_len`, ...). What depends on the parameters alone belongs in
        a pydantic validator.
        """
        return ()

    def widened(self, factor: int) -> Self:
        """The same in a model `factor` times as wide: what counts heads or inner channels grows along, the width of a head does not.

        For a look at how a model scales (`llmkit build --coord-check`). May be left out: as it is.
        """
        return self


@dataclass(frozen=True)
class Migration:
    """What one revision of a component called otherwise than the next.

    params   old name of a parameter -> its name now
    tensors  old name of a tensor, or of a module within the component -> its name now: `{"wq": "query"}` is of `wq.weight` as well

    A name that was given up is never used again for something else: so that what is new already is left as it is, and a run whose
    checkpoints are of several revisions can be read.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """One entry of the catalog.

    kind      what it is
    name      how a spec calls it: undotted names are llmkit's, others are `prefix.name`
    params    the class of its parameters
    target    `"module:attribute"`, imported only when something is built
    summary   one line for a person who chooses
    revision  raised when parameters or saved names change their meaning
    needs     traits that its partner in the spec must offer (a rotary position needs an attention that offers `rotate`)
    offers    traits that it has; `needs` and `offers` may be functions from the parameters to traits
    migrations  revision -> what it called otherwise than the one after it, so that runs of that revision can be read
    """

    kind: Kind
    name: str
    params: type[Params]
    target: str
    summary: str
    revision: int = 1
    needs: Traits = frozenset()
    offers: Traits = frozenset()
    migrations: Mapping[int, Migration] = field(default_factory=dict, hash=False)

    def reads(self, revision: int) -> bool:
        """Whether a run of that revision can be read: it is this one, or there are migrations all the way."""
        return revision <= self.revision and all(step in self.migrations for step in range(revision, self.revision))

    def migrated(self, params: Mapping[str, Any], revision: int) -> dict[str, Any]:
        """Parameters as that revision wrote them, under the names that they have now."""
        now = dict(params)
        for step in range(revision, self.revision):
            for old, new in self.migrations[step].params.items():
                if old in now:
                    now[new] = now.pop(old)
        return now

    def earlier_names(self, tensor: str) -> list[str]:
        """What one of its tensors was called in earlier revisions, the latest first; `tensor` is its name within the component."""
        found: list[str] = []
        name = tensor
        for step in sorted(self.migrations, reverse=True):
            name = _before(name, self.migrations[step].tensors)
            if name not in (tensor, *found):
                found.append(name)
        return found

    def needed(self, params: Params) -> frozenset[str]:
        """The traits that this component, with these parameters, asks of its partner."""
        return frozenset(self.needs(params)) if callable(self.needs) else frozenset(self.needs)

    def offered(self, params: Params) -> frozenset[str]:
        """The traits that this component, with these parameters, has."""
        return frozenset(self.offers(params)) if callable(self.offers) else frozenset(self.offers)

    def resolve(self) -> Any:
        """The class behind `target`. Imports it; raises `ImportError` or `AttributeError` where the plugin is broken."""
        module, _, attribute = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found


def _before(name: str, renamed: Mapping[str, str]) -> str:
    for old, new in renamed.items():
        if name == new or name.startswith(f"{new}."):
            return old + name.removeprefix(new)
    return name


@dataclass(frozen=True)
class Chosen:
    """What a slot holds once validated: the component and its parameters. It needs no catalog to be built."""

    component: Component
    params: Any

    @property
    def type(self) -> str:
        """The component's name, as the spec writes it."""
        return self.component.name

    def make(self, *arguments: Any) -> Any:
        """Build the component: modules with a `Site`, the others with nothing."""
        return self.component.resolve()(self.params, *arguments)
