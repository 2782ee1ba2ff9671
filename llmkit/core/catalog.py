"""The frozen set of components that this process knows, each with where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from llmkit.core.component import Component
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind


@dataclass(frozen=True)
class Origin:
    """The distribution that a component came from, and its version."""

    distribution: str
    version: str


@dataclass(frozen=True)
class Failure:
    """A plugin, or a name that two plugins claim, and why it is not in the catalog."""

    plugin: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A component and its origin."""

    component: Component
    origin: Origin


@dataclass(frozen=True)
class Catalog:
    """All components by kind and name. A value: it is passed, never looked up in a global."""

    entries: Mapping[tuple[Kind, str], Entry]
    failures: tuple[Failure, ...] = ()
    withdrawn: Mapping[tuple[Kind, str], str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Component]:
        return (entry.component for entry in self.entries.values())

    def names(self, kind: Kind) -> list[str]:
        """The names of one kind, in alphabetical order."""
        return sorted(name for of, name in self.entries if of is kind)

    def find(self, kind: Kind, name: str) -> Component:
        """The component of this kind and name; `UserError` with a suggestion where there is none."""
        return self.entry(kind, name).component

    def entry(self, kind: Kind, name: str) -> Entry:
        """As `find`, with the origin."""
        found = self.entries.get((kind, name))
        if found is not None:
            return found
        raise UserError(self.missing(kind, name))

    def missing(self, kind: Kind, name: str) -> str:
        """Why there is no such component, and what may have been meant."""
        if (kind, name) in self.withdrawn:
            return f"{kind} {name!r} is withdrawn: {self.withdrawn[kind, name]}"
        names = self.names(kind)
        # A name with a dot is some plugin's: a built-in that merely looks like it was not meant.
        close = get_close_matches(name, [one for one in names if ("." in one) == ("." in name)], n=1)
        plugin = "; install the plugin that brings it" if "." in name else ""
        hint = f"did you mean {close[0]!r}?" if close else f"installed: {', '.join(names) or 'none'}{plugin}"
        broken = f"; plugins that failed: {', '.join(failure.plugin for failure in self.failures)}" if self.failures else ""
        return f"no {kind} is called {name!r}; {hint}{broken}"

    @property
    def fingerprint(self) -> str:
        """A hash of every component's kind, name, revision and origin: ranks and checkpoints compare it."""
        lines = sorted(
            f"{kind}:{name}:{entry.component.revision}:{entry.origin.distribution}:{entry.origin.version}"
            for (kind, name), entry in self.entries.items()
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
