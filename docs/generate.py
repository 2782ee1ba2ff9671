"""Writes docs/reference/ from the catalog, the spec and the command line; with `--check`, only says whether it has drifted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import llmkit
from llmkit.cli import app
from llmkit.core.component import Component
from llmkit.core.kinds import Kind
from llmkit.core.spec import BlockSpec, DataSpec, ModelSpec, Pattern, Spec, TrainSpec

REFERENCE = Path(__file__).parent / "reference"
HEADER = "<!-- written by docs/generate.py; change the code, then run `make docs` -->\n\n"


def main() -> int:
    """Write the pages, or compare them with what lies there."""
    check = "--check" in sys.argv
    stale = [path for path, text in pages() if not path.exists() or path.read_text() != text]
    if check:
        for path in stale:
            print(f"{path.relative_to(Path.cwd())} is not what the code says: run `make docs`")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages():
        path.write_text(text)
    return 0


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page and its text."""
    yield REFERENCE / "components.md", HEADER + components()
    yield REFERENCE / "spec.md", HEADER + spec()
    yield REFERENCE / "cli.md", HEADER + commands()


def components() -> str:
    """Every built-in component by kind: summary, traits, parameters, source."""
    parts = ["# Components\n\nEverything that llmkit ships, as `llmkit plugins list` names it.\n"]
    entries = [entry for entry in llmkit.catalog().entries.values() if entry.origin.distribution == "llmkit"]
    for kind in Kind:
        parts.append(f"## {kind}\n\nInterface: `{kind.interface}`\n")
        mine = [entry.component for entry in entries if entry.component.kind is kind]
        parts.extend(component(one) for one in sorted(mine, key=lambda one: one.name))
    return "\n".join(parts)


def component(one: Component) -> str:
    """One component's section."""
    traits = [
        f"{word} {', '.join(sorted(value))}"
        for word, value in (("needs", one.needs), ("offers", one.offers))
        if value and not callable(value)
    ]
    lines = [
        f"### {one.kind}:{one.name}\n",
        f"{one.summary}\n",
        f"Code: `{one.target}`, revision {one.revision}" + "".join(f"; {trait}" for trait in traits) + "\n",
    ]
    return "\n".join(lines) + fields(one.params)


def fields(model: type[BaseModel]) -> str:
    """A table of a model's fields."""
    model.model_rebuild()
    if not model.model_fields:
        return "\nNo parameters.\n"
    rows = [
        f"| `{name}` | {type_name(field.annotation)} | {default(field)} | {(field.description or '').replace('|', chr(92) + '|')} |"
        for name, field in model.model_fields.items()
    ]
    return "\n| parameter | type | default | what it is |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def type_name(annotation: Any) -> str:
    """A type as a person reads it."""
    text = annotation.__name__ if isinstance(annotation, type) and not getattr(annotation, "__args__", None) else str(annotation)
    for noise in ("typing.", "llmkit.core.component.", "llmkit.core.spec.", "NoneType"):
        text = text.replace(noise, "None" if noise == "NoneType" else "")
    return "`" + text.replace("|", "\\|") + "`"


def default(field: Any) -> str:
    """A field's default, or that it must be given."""
    if field.default_factory is not None:
        return f"`{field.default_factory()!r}`"
    if field.default is PydanticUndefined:
        return "required"
    return f"`{field.default!r}`"


def spec() -> str:
    """The spec's own parts."""
    parts = ["# The spec\n\nA slot (`Chosen`) takes the name of a component or a mapping with a `type`; see [components](components.md).\n"]
    for title, model in (
        ("Top", Spec), ("model", ModelSpec), ("model.block", BlockSpec),
        ("model.pattern", Pattern), ("data", DataSpec), ("train", TrainSpec),
    ):  # fmt: skip
        parts.append(f"## {title}\n\n{(model.__doc__ or '').strip()}\n{fields(model)}")
    defaults = (Path(llmkit.__file__).parent / "recipes" / "defaults.yaml").read_text()
    parts.append(f"## What a spec is laid over\n\n```yaml\n{defaults}```\n")
    return "\n".join(parts)


def commands() -> str:
    """The help of every command, without its colours and its terminal's width."""
    root = typer.main.get_command(app)
    return "# Commands\n\n" + "\n".join(command(root, "llmkit"))


def command(one: Any, path: str) -> Iterator[str]:
    """A command's section, then those below it."""
    if isinstance(one, click.Group) or hasattr(one, "commands"):
        for name, child in sorted(one.commands.items()):
            yield from command(child, f"{path} {name}")
        return
    yield f"## `{path}`\n\n{(one.help or '').strip()}\n"
    rows = [
        f"| `{' '.join([*parameter.opts, *parameter.secondary_opts])}` | {getattr(parameter, 'help', None) or ''} |"
        for parameter in one.params
        if parameter.name != "help"
    ]
    yield "| argument | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
