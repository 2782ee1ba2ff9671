"""Writes docs/reference/ from the catalog, the spec and the command line; with `--check`, only says whether it has drifted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import typer
from pydantic import BaseModel

import llmkit
from llmkit.cli import app
from llmkit.cli.plugins_show import documentation, parameters
from llmkit.core.component import Component, Params
from llmkit.core.kinds import Kind
from llmkit.core.spec import BlockSpec, DataSpec, ModelSpec, Pattern, Spec, SpikesSpec, TrainSpec
from llmkit.model.count import component_cost
from llmkit.testing.example_parameters import examples
from llmkit.testing.subject import LAYERS, LENGTH, WIDTH, Subject, subjects

IN_A_MODEL = (Kind.position, Kind.attention, Kind.norm, Kind.ffn)

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
        fields(one.params),
    ]
    if (said := documentation(one.target)) is not None:
        lines.append(f"```text\n{said}\n```\n")
    if one.kind in IN_A_MODEL:
        lines.append(cost(one))
    return "\n".join(lines)


def cost(one: Component) -> str:
    """What the component takes in one small model that all are put in, so that they compare."""
    params = examples(one, llmkit.catalog())[0]
    spec = Subject(one, params, llmkit.catalog(), beside(one, params)).spec()
    told = component_cost(spec, one.kind, one.name)
    given = params.model_dump(exclude_defaults=True)
    with_ = f" with `{', '.join(f'{key}: {value}' for key, value in given.items())}`" if given else ""
    flops = "" if told.flops_per_token is None else f", {told.flops_per_token:,.0f} FLOPs a token forward"
    cached = f", {told.kv_cache_bytes_per_token:,} cache bytes a token" if told.kv_cache_bytes_per_token else ""
    where = f"d_model {WIDTH}, {LAYERS} layers, {LENGTH} tokens"
    tensors = "".join(f"| `{row.name}` | {' x '.join(map(str, row.shape))} |\n" for row in told.tensors)
    table = f"\n| tensor | shape |\n|---|---|\n{tensors}" if tensors else ""
    return f"In a model of {where}{with_}: {told.parameters:,} parameters{flops}{cached}.\n{table}"


def beside(one: Component, params: Params) -> Mapping[str, Any]:
    """The first partner that the laws would try it with: what the traits allow."""
    return next(iter(subjects(one, params, llmkit.catalog()))).partners


def fields(model: type[BaseModel]) -> str:
    """A table of a model's fields."""
    rows = [
        f"| `{row['name']}` | {escaped(row['type'])} | {'required' if row['required'] else default(row['default'])} "
        f"| {escaped(row['description'] or '')} |"
        for row in parameters(model)
    ]
    if not rows:
        return "No parameters.\n"
    return "| parameter | type | default | what it is |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def escaped(text: str) -> str:
    """Text in a table's cell."""
    return text.replace("|", "\\|")


def default(value: Any) -> str:
    """A default as YAML has it."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def spec() -> str:
    """The spec's own parts."""
    parts = ["# The spec\n\nA slot (`Chosen`) takes the name of a component or a mapping with a `type`; see [components](components.md).\n"]
    for title, model in (
        ("Top", Spec), ("model", ModelSpec), ("model.block", BlockSpec),
        ("model.pattern", Pattern), ("data", DataSpec), ("train", TrainSpec), ("train.spikes", SpikesSpec),
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
