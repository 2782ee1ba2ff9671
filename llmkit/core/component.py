"""A component is data: what it is called, what it takes, and where its code lies. Its code is imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    """

    kind: Kind
    name: str
    params: type[Params]
    target: str
    summary: str
    revision: int = 1
    needs: Traits = frozenset()
    offers: Traits = frozenset()

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
