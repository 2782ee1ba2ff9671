"""Composition root: built-ins, entry points and environment switches become a catalog; documents become a spec."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from llmkit import __version__
from llmkit.core.catalog import Catalog, Origin
from llmkit.core.checks import violations
from llmkit.core.compose import Source, compose
from llmkit.core.document import Node
from llmkit.core.host import Host
from llmkit.core.manifest import Revisions
from llmkit.core.problems import Problem, SpecError, problems_of, truths_for_numbers
from llmkit.core.spec import Spec

BUILTINS = tuple(
    f"llmkit.plugins.{folder}.components"
    for folder in (
        "tokenizers", "positions", "attention", "norms", "ffn", "inits", "optimizers", "schedules", "objectives", "evals", "sources",
        "extractors", "filters", "deduplicators", "mixers",
    )
)  # fmt: skip

RECIPES = Path(__file__).parent / "recipes"


class LocatedSpec(NamedTuple):
    """A validated spec, and the document it came from, in which every value knows the layer that set it."""

    spec: Spec
    document: Node


@cache
def catalog() -> Catalog:
    """What is installed: the built-ins, then every distribution with an entry point in the group `llmkit`.

    `LLMKIT_PLUGINS=a,b` loads only these (by distribution or entry point), `LLMKIT_NO_PLUGINS=1` none, and `LLMKIT_STRICT=1`
    raises `UserError` where a plugin has failed. Read once a process; `catalog.cache_clear()` reads it anew.
    """
    return assemble(os.environ)


def assemble(environment: Mapping[str, str]) -> Catalog:
    """A catalog by these environment switches."""
    host = Host(strict=_switch(environment, "LLMKIT_STRICT"))
    for module in BUILTINS:
        host.register_builtin(importlib.import_module(module), Origin("llmkit", __version__))
    if not _switch(environment, "LLMKIT_NO_PLUGINS"):
        host.load_entry_points(_listed(environment.get("LLMKIT_PLUGINS")))
    return host.catalog()


def load_spec(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    catalog: Catalog | None = None,
    *,
    recorded: Revisions | None = None,
) -> Spec:
    """A validated spec.

    source     a path, `recipe:NAME` for one that ships, or a mapping
    overrides  `address=value` as after `--set`, the value in YAML
    catalog    the components it may name; what is installed unless given
    recorded   the revisions of the components that wrote it, where a run did: its parameters get the names that they have now

    Raises `SpecError` (a `UserError`) with every problem: file, line, column, address, and what to do.
    """
    return load_located(source, overrides, catalog, recorded).spec


def load_located(
    source: Source, overrides: Sequence[str] = (), catalog: Catalog | None = None, recorded: Revisions | None = None
) -> LocatedSpec:
    """As `load_spec`, with the document: `document.walk(address.split("."))` tells where a value was set."""
    return validated(compose(source, overrides, RECIPES), catalog, recorded)


def validated(document: Node, catalog: Catalog | None = None, recorded: Revisions | None = None) -> LocatedSpec:
    """A composed document as a spec, with all that is wrong with it as `load_spec` tells it."""
    spec = _validated(document, _or_installed(catalog), recorded or {})
    found = [*truths_for_numbers(spec.model_dump(mode="json"), document), *violations_at(spec, document)]
    if found:
        raise SpecError(found)
    return LocatedSpec(spec, document)


def unchecked_spec(source: Source) -> Spec:
    """A spec every slot of which is valid by itself, whether or not they fit together: to be compared, not to be built."""
    return _validated(compose(source, (), RECIPES), catalog(), {})


def violations_at(spec: Spec, document: Node) -> list[Problem]:
    """What is wrong between the slots of a spec, where it was written."""
    return [Problem(document.place_of(one.address), one.address, one.message) for one in violations(spec)]


def _validated(document: Node, known: Catalog, recorded: Revisions) -> Spec:
    try:
        return Spec.model_validate(document.plain(), context={"catalog": known, "recorded": recorded})
    except ValidationError as error:
        raise SpecError(problems_of(error, Spec, document, known)) from None


def _or_installed(given: Catalog | None) -> Catalog:
    return catalog() if given is None else given


def _switch(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").strip().lower() not in ("", "0", "false", "no")


def _listed(names: str | None) -> list[str] | None:
    return None if not names else [name.strip() for name in names.split(",") if name.strip()]
