"""`llmkit plugins new`: a package to begin with. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.output import Json, print_json, result
from llmkit.core.kinds import Kind


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case words with hyphens between them, such as my-idea.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What it brings.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where; a new directory NAME here unless given.")] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="What your components' names begin with, before the dot.")] = "my",
    as_json: Json = False,
) -> None:
    """Write a package with one component that works, to have its middle replaced. Nothing is ever overwritten.

    It installs, is proved by `llmkit plugins check`, has that as its tests, and a spec to train beside a baseline.

    Example: llmkit plugins new my-idea --kind attention
    """
    from llmkit.testing.scaffold import names, scaffold

    called = names(name, prefix)
    directory = out or Path(name)
    files = scaffold(name, kind, directory, prefix)
    if as_json:
        component = {"kind": str(kind), "name": called.component}
        print_json({"directory": str(directory), "distribution": called.distribution, **component, "files": [str(file) for file in files]})
        return
    for file in files:
        result.print(f"wrote {file}", markup=False, soft_wrap=True)
    result.print(f"next: llmkit plugins check {directory}, then pip install -e {directory}", markup=False, soft_wrap=True)
