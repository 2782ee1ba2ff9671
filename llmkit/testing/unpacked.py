"""A plugin that lies in a directory and is not installed, as if it were."""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog, Origin
from llmkit.core.component import Component
from llmkit.core.errors import UserError
from llmkit.core.host import GROUP, Host


def unpacked(directory: Path, catalog: Catalog) -> tuple[list[Component], Catalog]:
    """The components that a package's directory declares, and the catalog with them in it.

    Its `pyproject.toml` names the modules with the hook, and `src`, or the directory itself, goes to the front of the path of this
    process. `UserError` with what to do where there is no such thing, or where its plugin fails.
    """
    project = _project(directory)
    points: dict[str, str] = _table(project, "entry-points", GROUP)
    name = project.get("name", directory.resolve().name)
    if not points:
        raise UserError(
            f'{str(directory / "pyproject.toml")!r} has no [project.entry-points.{GROUP}]; write {name.split("-")[-1]} = "module" there'
        )
    sys.path.insert(0, str((directory / "src" if (directory / "src").is_dir() else directory).resolve()))
    host, origin = Host(), Origin(name, str(project.get("version", "")))
    for point, module in points.items():
        _register(host, metadata.EntryPoint(point, module, GROUP), origin)
    own = host.catalog()
    if own.failures:
        raise UserError("\n".join(f"plugin {failure.plugin} has failed: {failure.reason}" for failure in own.failures))
    return list(own), Catalog({**catalog.entries, **own.entries}, catalog.failures, catalog.withdrawn)


def _register(host: Host, point: metadata.EntryPoint, origin: Origin) -> None:
    plugin = f"{origin.distribution}:{point.name}"
    try:
        module = point.load()
    except (Exception, SystemExit) as error:
        raise UserError(f"plugin {plugin} cannot be imported: {type(error).__name__}: {error}") from error
    host.register(plugin, module, origin)


def _project(directory: Path) -> dict[str, Any]:
    file = directory / "pyproject.toml"
    try:
        return _table(tomllib.loads(file.read_text(encoding="utf-8")), "project")
    except OSError:
        raise UserError(
            f"{str(directory)!r} has no pyproject.toml; give the directory of a package, or begin one with llmkit plugins new"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{str(file)!r} is no TOML: {error}") from None


def _table(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """The table of this name; empty where there is none, or something else in its place."""
    found: Any = document
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
