"""What a run records of where it came from, and whether what is installed can still read it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog, Origin
from llmkit.core.component import Component
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.packages import installed
from llmkit.core.spec import Spec

PACKAGES = ("torch", "accelerate", "datasets", "numpy", "pydantic", "safetensors", "tokenizers", "transformers")
"""Whose versions are recorded, by what is installed: nothing is imported for it."""

Revisions = Mapping[tuple[Kind, str], int]
"""(kind, name) -> the revision that wrote something."""

GIT_SECONDS = 5.0
"""How long git may take to answer: a run does not wait for a repository on a slow disk."""


def manifest(spec: Spec, catalog: Catalog, directory: Path | None = None) -> dict[str, Any]:
    """Versions, components with their revisions, the catalog's fingerprint, git state and hardware, as JSON holds them.

    directory  whose git state is recorded; the working directory unless given
    """
    return {
        "llmkit": installed("llmkit"),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := installed(name)) is not None},
        "catalog": catalog.fingerprint,
        "components": components(spec, catalog),
        "git": git_state(directory or Path.cwd()),
        "hardware": hardware(),
    }


def components(spec: Spec, catalog: Catalog) -> list[dict[str, Any]]:
    """Every distinct component of a spec, with its revision and the distribution that brought it."""
    used = {(chosen.component.kind, chosen.type): chosen.component for _, _, chosen in spec.slots()}
    return [_row(component, _origin(component, catalog)) for component in used.values()]


def revisions(recorded: Mapping[str, Any], catalog: Catalog) -> Revisions:
    """The revision of every component that a manifest names, as far as it is installed.

    A revision is raised where parameters or saved names change, so that what another one wrote would be read wrongly: `UserError`
    with what to install where it is newer than what is installed, or older and the component has no migrations from it.
    """
    rows = [(Kind(row["kind"]), row) for row in recorded.get("components", ()) if row["kind"] in list(Kind)]
    installed = [(catalog.entries[kind, row["name"]].component, row) for kind, row in rows if (kind, row["name"]) in catalog.entries]
    refused = [_refusal(row, component.revision) for component, row in installed if not component.reads(row["revision"])]
    if refused:
        raise UserError("\n".join(refused))
    return {(component.kind, component.name): row["revision"] for component, row in installed}


def git_state(directory: Path) -> dict[str, Any] | None:
    """Commit, branch and whether anything is uncommitted; None outside a repository, or where git does not answer."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(directory, "status", "--porcelain")
    return {
        "commit": commit,
        "branch": _git(directory, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def hardware() -> dict[str, Any]:
    """The machine: system, processor, cores, bytes of memory (None where the system does not say)."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
    }


def _row(component: Component, origin: Origin) -> dict[str, Any]:
    return {
        "kind": str(component.kind),
        "name": component.name,
        "revision": component.revision,
        "distribution": origin.distribution,
        "version": origin.version,
    }


def _origin(component: Component, catalog: Catalog) -> Origin:
    entry = catalog.entries.get((component.kind, component.name))
    return entry.origin if entry is not None else Origin("", "")


def _refusal(row: Mapping[str, Any], installed: int) -> str:
    what = f"{row['kind']} {row['name']!r} was saved at revision {row['revision']} and revision {installed} is installed"
    wrote = f"{row['distribution']} {row['version']} wrote it"
    if row["revision"] > installed:
        return f"{what}; {wrote}: pip install --upgrade '{row['distribution']}>={row['version']}'"
    return f"{what}, which cannot read the older one; {wrote}: pip install '{row['distribution']}=={row['version']}', or train anew"


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
