"""`llmkit plugins`: what is installed, where it came from, what it takes, and what has failed. Imports nothing heavy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from llmkit.cli.output import Json, person, print_json, result, show_rows, written
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from pydantic import BaseModel

    from llmkit.core.catalog import Catalog, Entry

app = typer.Typer(no_args_is_help=True, help="What components are installed, and from where.")


@app.command("list")
def list_plugins(
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only components of this kind.")] = None,
    as_json: Json = False,
) -> None:
    """Print every component that a spec can name, and every plugin that has failed, with its reason.

    Example: llmkit plugins list --kind attention
    """
    from llmkit.runtime import catalog

    installed = catalog()
    entries = [entry for entry in ordered(installed) if kind in (None, entry.component.kind)]
    if as_json:
        failures = [{"plugin": failure.plugin, "reason": failure.reason} for failure in installed.failures]
        print_json({"components": [row(entry) for entry in entries], "failures": failures})
        return
    show_rows(("kind", "name", "from", "what it is"), [_line(entry) for entry in entries])
    for failure in installed.failures:
        person.print(f"failed: {failure.plugin}: {failure.reason}", style="red", markup=False, soft_wrap=True)


@app.command("show")
def show_plugin(
    component: Annotated[str, typer.Argument(metavar="KIND:NAME", help="Such as attention:gqa.")],
    as_json: Json = False,
) -> None:
    """Print one component: what it is, its parameters, its traits, where its code lies.

    Example: llmkit plugins show attention:gqa
    """
    from llmkit.runtime import catalog

    entry = found(component, catalog())
    details = described(entry)
    if as_json:
        print_json(details)
    else:
        _show(details)


def found(wanted: str, installed: Catalog) -> Entry:
    """The component called `KIND:NAME`, or `NAME` where only one kind has it. `UserError` with a suggestion where there is none."""
    from llmkit.core.problems import suggestion

    kind, colon, name = wanted.partition(":")
    if colon:
        if kind not in list(Kind):
            raise UserError(f"{kind!r} is no kind of component; {suggestion(kind, Kind)}")
        return installed.entry(Kind(kind), name)
    bearers = [of for of, known in installed.entries if known == wanted]
    if len(bearers) == 1:
        return installed.entry(bearers[0], wanted)
    if bearers:
        raise UserError(f"{wanted!r} is several components: name one of {', '.join(f'{of}:{wanted}' for of in bearers)}")
    raise UserError(f"no component is called {wanted!r}; {suggestion(wanted, {known for _, known in installed.entries})} Write KIND:NAME")


def ordered(installed: Catalog) -> list[Entry]:
    """Every component, by kind in the order of the kinds, then by name."""
    return [installed.entry(kind, name) for kind in Kind for name in installed.names(kind)]


def row(entry: Entry) -> dict[str, Any]:
    """A component as `plugins list --json` prints it."""
    component = entry.component
    return {
        "kind": str(component.kind),
        "name": component.name,
        "summary": component.summary,
        "distribution": entry.origin.distribution,
        "version": entry.origin.version,
        "revision": component.revision,
    }


def described(entry: Entry) -> dict[str, Any]:
    """A component with its parameters, traits and source."""
    component = entry.component
    return {
        **row(entry),
        "about": " ".join((component.params.__doc__ or "").split()),
        "target": component.target,
        "source": source_file(component.target),
        "needs": _traits(component.needs),
        "offers": _traits(component.offers),
        "parameters": parameters(component.params),
    }


def parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Every parameter: name, type in words, whether it must be given, its default, its description."""
    return [
        {
            "name": name,
            "type": words(field.rebuild_annotation()),
            "required": field.is_required(),
            "default": None if field.is_required() else _plain(field.get_default(call_default_factory=True, validated_data={})),
            "description": field.description,
        }
        for name, field in model.model_fields.items()
    ]


def words(annotation: Any) -> str:
    """A type as a person reads it: `int or null`, `'half' or 'interleaved'`, `a norm`."""
    from pydantic import BaseModel

    from llmkit.core.slot import Slot, branches

    names = []
    for branch in branches(annotation):
        if isinstance(branch, Slot):
            names.append(f"a component of kind {branch.kind}")
        elif branch is type(None):
            names.append("null")
        elif get_origin(branch) is Literal:
            names += [written(value) if not isinstance(value, str) else repr(value) for value in get_args(branch)]
        elif get_origin(branch) is dict:
            names.append(f"mapping to {words(get_args(branch)[1])}")
        elif get_origin(branch) in (list, tuple):
            names.append(f"list of {words(get_args(branch)[0])}")
        elif isinstance(branch, type) and issubclass(branch, BaseModel):
            names.append(_model_words(branch))
        else:
            names.append(getattr(branch, "__name__", str(branch)))
    return " or ".join(names)


def _model_words(model: type[BaseModel]) -> str:
    """`linear (factor)` where a model is told by its `type`, else its fields."""
    fields = ", ".join(name for name in model.model_fields if name != "type")
    kind = model.model_fields.get("type")
    if kind is None:
        return f"mapping ({fields})"
    return f"{kind.default} ({fields})" if fields else str(kind.default)


def source_file(target: str) -> str | None:
    """The file of a component's code, found on the path without importing anything; None where it is not there."""
    parts = target.partition(":")[0].split(".")
    for root in map(Path, sys.path):
        stem = root.joinpath(*parts)
        for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
            if path.is_file():
                return str(path)
    top = sys.modules.get(parts[0])
    for folder in getattr(top, "__path__", ()):
        path = Path(folder).joinpath(*parts[1:]).with_suffix(".py")
        if path.is_file():
            return str(path)
    return None


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def _traits(traits: Any) -> list[str] | str:
    return "depends on the parameters" if callable(traits) else sorted(traits)


def _line(entry: Entry) -> tuple[str, ...]:
    component, origin = entry.component, entry.origin
    return str(component.kind), component.name, f"{origin.distribution} {origin.version}", component.summary


def _show(details: dict[str, Any]) -> None:
    lines = [
        f"{details['kind']}:{details['name']}: {details['summary']}",
        details["about"],
        f"from {details['distribution']} {details['version']}, revision {details['revision']}",
        f"code {details['target']}" + (f" in {details['source']}" if details["source"] else ""),
    ]
    for word in ("needs", "offers"):
        traits = details[word]
        if traits:
            lines.append(f"{word} {traits if isinstance(traits, str) else ', '.join(traits)}")
    result.print("\n".join(lines), markup=False, soft_wrap=True)
    if not details["parameters"]:
        result.print("it takes no parameters")
    rows = [
        (one["name"], one["type"], "required" if one["required"] else written(one["default"]), one["description"])
        for one in details["parameters"]
    ]
    show_rows(("parameter", "type", "default", "what it is"), rows)
