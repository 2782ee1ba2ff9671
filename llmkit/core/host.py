"""Finds and loads plugins, and keeps their failures apart: one broken plugin breaks nothing but itself.

pluggy is silent where a second distribution uses the same entry-point name, where a hook is misspelt and where its marker is
missing, and one exception ends the hook call of all. The host says each of these, and loads and calls every plugin by itself.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, NamedTuple

import pluggy

from llmkit.core.catalog import Catalog, Entry, Failure, Origin
from llmkit.core.component import Component, Params
from llmkit.core.errors import UserError
from llmkit.core.hooks import PROJECT, Hooks
from llmkit.core.kinds import Kind
from llmkit.core.problems import suggestion

GROUP = "llmkit"
HOOK = "llmkit_components"
BUILTIN = "llmkit"

_OWN_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_THEIR_NAME = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")
_TARGET = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$")


class PluginError(Exception):
    """Why a plugin cannot be used; it becomes that plugin's entry under `failures`."""


class Loaded(NamedTuple):
    """A plugin that answered: its name in messages, where it came from, and its components."""

    plugin: str
    origin: Origin
    components: Sequence[Component]


class Host:
    """One pluggy manager and what it knows. A value: make one, register, ask it for the catalog.

    strict  raise `UserError` at the first plugin that fails, instead of listing it
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._loaded: list[Loaded] = []
        self._failures: list[Failure] = []

    def register_builtin(self, module: Any, origin: Origin) -> None:
        """A plugin that llmkit ships. A failure here is our own mistake, and is raised."""
        self._loaded.append(Loaded(module.__name__, origin, self._components(module.__name__, module, _OWN_NAME)))

    def register(self, plugin: str, module: Any, origin: Origin) -> None:
        """A plugin of somebody else: a module, or any object with the hook as a method."""
        with self._kept_apart(plugin):
            self._loaded.append(Loaded(plugin, origin, self._components(plugin, module, _THEIR_NAME)))

    def load_entry_points(self, only: Sequence[str] | None = None) -> None:
        """Load every distribution's entry points, or only those that these distributions or entry points are called."""
        missing = {_canonical(name) for name in only or ()}
        for distribution, entry_point in sorted(_entry_points(), key=lambda pair: (_canonical(pair[0].name), pair[1].name)):
            names = {_canonical(distribution.name), _canonical(entry_point.name)}
            if only is not None and not names & {_canonical(name) for name in only}:
                continue
            missing -= names
            plugin = f"{distribution.name}:{entry_point.name}"
            with self._kept_apart(plugin):
                self.register(plugin, _quietly(entry_point), Origin(distribution.name, distribution.version))
        for name in sorted(missing):
            self._fail(name, "LLMKIT_PLUGINS names it, and no installed distribution or entry point is called so; install it")

    def catalog(self) -> Catalog:
        """Everything registered so far, frozen."""
        claims: dict[tuple[Kind, str], list[tuple[Loaded, Component]]] = {}
        for loaded in self._loaded:
            for component in loaded.components:
                claims.setdefault((component.kind, component.name), []).append((loaded, component))
        entries: dict[tuple[Kind, str], Entry] = {}
        withdrawn: dict[tuple[Kind, str], str] = {}
        failures = list(self._failures)
        for key, claimants in claims.items():
            if len(claimants) == 1:
                loaded, component = claimants[0]
                entries[key] = Entry(component, loaded.origin)
                continue
            owners = " and ".join(loaded.plugin for loaded, _ in claimants)
            withdrawn[key] = f"{owners} both claim it; uninstall one of them, or load only one with LLMKIT_PLUGINS"
            failures.append(Failure(f"{key[0]}:{key[1]}", withdrawn[key]))
        if withdrawn and self.strict:
            raise UserError("; ".join(f"{failure.plugin}: {failure.reason}" for failure in failures))
        return Catalog(MappingProxyType(entries), tuple(failures), MappingProxyType(withdrawn))

    @contextlib.contextmanager
    def _kept_apart(self, plugin: str) -> Iterator[None]:
        try:
            yield
        except PluginError as error:
            self._fail(plugin, str(error))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            self._fail(plugin, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def _fail(self, plugin: str, reason: str) -> None:
        if self.strict:
            raise UserError(f"plugin {plugin} has failed: {reason} (LLMKIT_STRICT is set; without it, only this plugin is left out)")
        self._failures.append(Failure(plugin, reason))

    def _components(self, plugin: str, module: Any, names: re.Pattern[str]) -> list[Component]:
        self._manager.register(module, name=plugin)
        self._has_the_hook(module)
        others = [other for other in self._manager.get_plugins() if other is not module]
        with contextlib.redirect_stdout(sys.stderr):
            answers = self._manager.subset_hook_caller(HOOK, remove_plugins=others)()
            components = list(answers[0]) if answers else None
        if components is None:
            raise PluginError(f"{HOOK} returned nothing; return a list of Components")
        faults = [fault for component in components for fault in _faults(component, names)] or list(_twice(components))
        if faults:
            raise PluginError("; ".join(faults))
        return components

    def _has_the_hook(self, module: Any) -> None:
        callers = self._manager.get_hookcallers(module) or []
        unknown = [caller.name for caller in callers if not caller.has_spec()]
        if unknown:
            raise PluginError(f"no hook is called {unknown[0]!r}; rename the function to {HOOK}")
        if any(caller.name == HOOK for caller in callers):
            return
        if callable(getattr(module, HOOK, None)):
            raise PluginError(f"{HOOK} lacks its marker; write @llmkit.hookimpl above it")
        functions = [name for name, value in vars(module).items() if inspect.isfunction(value)] if hasattr(module, "__dict__") else []
        hint = suggestion(HOOK, functions) if functions else ""
        near = f" ({hint.removeprefix('did you mean ').rstrip('?')} is close)" if hint.startswith("did") else ""
        raise PluginError(f"it has no hook{near}; add a function {HOOK} that returns Components, marked with @llmkit.hookimpl")


def _entry_points() -> Iterator[tuple[metadata.Distribution, metadata.EntryPoint]]:
    """Of each distribution once: the first on the path, as importing it would choose."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if not name or _canonical(name) in seen:
            continue
        seen.add(_canonical(name))
        for entry_point in distribution.entry_points:
            if entry_point.group == GROUP:
                yield distribution, entry_point


def _quietly(entry_point: metadata.EntryPoint) -> Any:
    # What a plugin prints when it is imported may not mix with the one JSON document on stdout.
    with contextlib.redirect_stdout(sys.stderr):
        return entry_point.load()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _twice(components: Iterable[Component]) -> Iterator[str]:
    seen: set[tuple[Kind, str]] = set()
    for component in components:
        key = (component.kind, component.name)
        if key in seen:
            yield f"{component.kind}:{component.name} is returned twice; rename one of them"
        seen.add(key)


def _faults(component: Any, names: re.Pattern[str]) -> Iterator[str]:
    """What is wrong with one component of a hook's answer."""
    if not isinstance(component, Component):
        yield f"{HOOK} returned {component!r}, which is no Component"
        return
    if not isinstance(component.kind, Kind):
        yield f"component {component.name!r} has kind {component.kind!r}, which is none of {', '.join(Kind)}"
        return
    what = f"{component.kind}:{component.name}"
    if not isinstance(component.name, str) or not names.match(component.name):
        wanted = "prefix.name in lower case, such as acme.gated" if names is _THEIR_NAME else "one lower-case word"
        yield f"{what}: a name must be {wanted}; undotted names are llmkit's own"
    elif names is _THEIR_NAME and component.name.split(".")[0] == BUILTIN:
        yield f"{what}: the prefix {BUILTIN!r} is llmkit's own; use your distribution's"
    if not isinstance(component.target, str) or not _TARGET.match(component.target):
        yield f"{what}: target {component.target!r} must be 'module:attribute'"
    if not isinstance(component.summary, str) or not component.summary.strip() or "\n" in component.summary:
        yield f"{what}: its summary must be one line"
    if not isinstance(component.revision, int) or component.revision < 1:
        yield f"{what}: revision {component.revision!r} must be a whole number from 1"
    yield from (f"{what}: migrations has {step!r}; its keys are revisions before {component.revision}" for step in _beyond(component))
    yield from (
        f"{what}: `{name}` must be a frozenset of traits, or a function" for name in ("needs", "offers") if not _traits(component, name)
    )
    if not (isinstance(component.params, type) and issubclass(component.params, Params)):
        yield f"{what}: params {component.params!r} must be a subclass of llmkit.Params"
        return
    bare = [name for name, field in component.params.model_fields.items() if not field.description]
    if bare:
        yield f"{what}: parameters need a description: {', '.join(bare)}; write Field(description=...)"


def _beyond(component: Component) -> list[Any]:
    return [step for step in component.migrations if step not in range(1, component.revision)]


def _traits(component: Component, name: str) -> bool:
    value = getattr(component, name)
    return callable(value) or (isinstance(value, frozenset | set) and all(isinstance(trait, str) for trait in value))
