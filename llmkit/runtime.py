"""Composition root: built-ins, entry points and environment switches become a catalog; documents become a spec."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.spec import Spec

BUILTINS = tuple(
    f"llmkit.plugins.{folder}.components"
    for folder in (
        "tokenizers", "positions", "attention", "norms", "ffn", "optimizers", "schedules", "objectives", "evals", "sources",
    )
)  # fmt: skip


@cache
def catalog() -> Catalog:
    """What is installed."""
    entries = {}
    for name in BUILTINS:
        for component in importlib.import_module(name).llmkit_components():
            entries[component.kind, component.name] = Entry(component, Origin("llmkit", "0.1.0"))
    return Catalog(entries)


def _merge(under: Any, over: Any) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    if "type" in over and over["type"] != under.get("type"):
        return over
    return {**under, **{key: _merge(under.get(key), value) for key, value in over.items()}}


def load_spec(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), catalog: Catalog | None = None) -> Spec:
    """A validated spec."""
    catalog = catalog or globals()["catalog"]()
    if isinstance(source, str) and source.startswith("recipe:"):
        source = Path(__file__).parent / "recipes" / f"{source[7:]}.yaml"
    document = dict(source) if isinstance(source, Mapping) else yaml.safe_load(Path(source).read_text())
    document = _merge(yaml.safe_load((Path(__file__).parent / "recipes" / "defaults.yaml").read_text()), document)
    for override in overrides:
        address, _, text = override.partition("=")
        node = document
        *path, last = address.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = yaml.safe_load(text)
    document.setdefault("name", "spec" if isinstance(source, Mapping) else Path(source).stem)
    return Spec.model_validate(document, context={"catalog": catalog})
