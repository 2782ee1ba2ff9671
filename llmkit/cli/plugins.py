"""`llmkit plugins`: what is installed, from where, and what it takes."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic_core import PydanticUndefined
from rich.table import Table

from llmkit.cli.output import Json, person, print_json, result
from llmkit.core.catalog import Catalog, Entry
from llmkit.core.component import Component, Traits
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.problems import suggestion

app = typer.Typer(no_args_is_help=True, help="What is installed, from where, and what it takes.")


@app.command("list")
def list_plugins(
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only this kind.")] = None,
    as_json: Json = False,
) -> None:
    """List every component, and every plugin that could not be loaded with the reason.

    Example: llmkit plugins list --kind attention
    """
    from llmkit.runtime import catalog

    known = catalog()
    rows = [_row(entry) for entry in known.entries.values() if kind is None or entry.component.kind is kind]
    if as_json:
        failures = [{"plugin": failure.plugin, "reason": failure.reason} for failure in known.failures]
        print_json({"components": rows, "failures": failures})
        return
    _show_list(rows)
    for failure in known.failures:
        person.print(f"failed: {failure.plugin}: {failure.reason}", style="red", markup=False, soft_wrap=True)


@app.command("show")
def show_plugin(
    name: Annotated[str, typer.Argument(metavar="KIND:NAME", help="A component, such as attention:gqa.")],
    as_json: Json = False,
) -> None:
    """Show a component: what it is, its parameters, its traits, and where its code lies.

    Example: llmkit plugins show attention:gqa
    """
    from llmkit.runtime import catalog

    entry = _entry(name, catalog())
    component = entry.component
    parameters = [_parameter(field, about) for field, about in component.params.model_fields.items()]
    facts = {
        **_row(entry),
        "about": (component.params.__doc__ or "").strip(),
        "target": component.target,
        "needs": _traits(component.needs),
        "offers": _traits(component.offers),
        "parameters": parameters,
    }
    if as_json:
        print_json(facts)
        return
    _show_component(component, facts)


def _entry(name: str, catalog: Catalog) -> Entry:
    kind, _, rest = name.partition(":")
    if kind not in list(Kind):
        raise UserError(f"{name!r} begins with no kind; {suggestion(kind, list(Kind))} write KIND:NAME, such as attention:gqa")
    if not rest:
        raise UserError(f"{name!r} names no {kind}; write {kind}:NAME, of {', '.join(catalog.names(Kind(kind)))}")
    return catalog.entry(Kind(kind), rest)


def _row(entry: Entry) -> dict[str, Any]:
    component = entry.component
    return {
        "kind": str(component.kind),
        "name": component.name,
        "summary": component.summary,
        "distribution": entry.origin.distribution,
        "version": entry.origin.version,
        "revision": component.revision,
    }


def _parameter(name: str, field: Any) -> dict[str, Any]:
    required = field.is_required()
    default = None if required or field.default is PydanticUndefined else field.default
    return {
        "name": name,
        "type": _type(field.annotation),
        "required": required,
        "default": default if isinstance(default, str | int | float | bool | None) else str(default),
        "description": field.description,
    }


def _type(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")


def _traits(traits: Traits) -> list[str] | str:
    return "by its parameters" if callable(traits) else sorted(traits)


def _show_list(rows: list[dict[str, Any]]) -> None:
    if not result.is_terminal:
        for row in rows:
            result.print(
                f"{row['kind']}:{row['name']}  {row['summary']}  [{row['distribution']} {row['version']}]", markup=False, soft_wrap=True
            )
        return
    table = Table("kind", "name", "what it is", "from")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["summary"], f"{row['distribution']} {row['version']}")
    result.print(table)


def _show_component(component: Component, facts: dict[str, Any]) -> None:
    result.print(f"{component.kind}:{component.name}  {component.summary}", markup=False, soft_wrap=True)
    result.print(f"{facts['about']}", markup=False, soft_wrap=True)
    result.print(
        f"from {facts['distribution']} {facts['version']}, revision {component.revision}: {component.target}", markup=False, soft_wrap=True
    )
    for word in ("needs", "offers"):
        traits = facts[word]
        if traits:
            result.print(f"{word}: {traits if isinstance(traits, str) else ', '.join(traits)}", markup=False, soft_wrap=True)
    for parameter in facts["parameters"]:
        default = "required" if parameter["required"] else f"default {parameter['default']}"
        result.print(f"  {parameter['name']} ({parameter['type']}, {default}): {parameter['description']}", markup=False, soft_wrap=True)
