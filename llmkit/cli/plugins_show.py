"""`llmkit plugins show`: one component, without importing its code; with a spec, what it costs there."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from llmkit.cli.output import Json, Set, person, print_json, quantity, result, show_rows, written
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from pydantic import BaseModel

    from llmkit.core.catalog import Catalog, Entry
    from llmkit.core.component import Component
    from llmkit.core.spec import Spec

InSpec = Annotated[
    str | None,
    typer.Option("--spec", metavar="SPEC", help="Also tensors and cost in the model of this spec (a file, or recipe:NAME)."),
]


def show_plugin(
    component: Annotated[str, typer.Argument(metavar="KIND:NAME", help="Such as attention:gqa.")],
    spec: InSpec = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Print one component: what it computes, its parameters, its traits, where its code lies; with --spec, its shapes and its cost.

    Where the spec has another component in that place, this one takes it, with what they have in common.

    Example: llmkit plugins show attention:gqa
    Example: llmkit plugins show attention:gqa --spec recipe:tiny --set model.block.attention.n_kv_heads=2
    """
    from llmkit.runtime import catalog

    if overrides and spec is None:
        raise UserError("--set changes a spec, and there is none; add --spec SPEC")
    installed = catalog()
    entry = found(component, installed)
    details = described(entry)
    if spec is not None:
        details |= {"cost": cost(placed(entry.component, spec, overrides or [], installed), entry.component)}
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
        "formula": documentation(component.target),
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


def documentation(target: str) -> str | None:
    """What a component's code says of itself: the docstrings of its file and its class, read and not run; None without a file."""
    file = source_file(target)
    if file is None:
        return None
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    code = classes.get(target.partition(":")[2])
    said = [ast.get_docstring(node) for node in (tree, code) if node is not None]
    return "\n\n".join(filter(None, said)) or None


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


def placed(component: Component, source: str, overrides: list[str], installed: Catalog) -> Spec:
    """The spec, with the component in the place of its kind where it is in none: it keeps the parameters that both have."""
    from llmkit.runtime import load_spec
    from llmkit.testing.subject import address_of

    loaded = load_spec(source, (), installed)
    if any((kind, chosen.type) == (component.kind, component.name) for _, kind, chosen in loaded.slots()):
        return load_spec(source, overrides, installed)
    address = address_of(component.kind)
    before: Any = next((chosen.params.model_dump(mode="json") for where, _, chosen in loaded.slots() if where == address), {})
    fields = component.params.model_fields
    needed = {name: field.examples[0] for name, field in fields.items() if field.is_required() and field.examples}
    kept = {name: value for name, value in before.items() if name in fields and value is not None}
    value = json.dumps({"type": component.name, **needed, **kept})
    return load_spec(source, [f"{address}={value}", *overrides], installed)


def cost(spec: Spec, component: Component) -> dict[str, Any] | None:
    """What the component costs in the model of this spec; None of what is no part of a model."""
    from dataclasses import asdict

    if not component.kind.is_module:
        return None
    from llmkit.model.count import component_cost

    return {"spec": spec.name, **asdict(component_cost(spec, component.kind, component.name))}


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def _traits(traits: Any) -> list[str] | str:
    return "depends on the parameters" if callable(traits) else sorted(traits)


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
    if details["formula"]:
        result.print("\n" + details["formula"], markup=False, soft_wrap=True)
    if "cost" in details:
        _show_cost(details["cost"])


def _show_cost(cost: dict[str, Any] | None) -> None:
    if cost is None:
        person.print("it is no part of a model: it has no tensors and no FLOPs there")
        return
    result.print(f"\nin {cost['spec']}, at {', '.join(cost['addresses'])}", markup=False, soft_wrap=True)
    rows = [(one["name"], " x ".join(map(str, one["shape"])), str(one["count"])) for one in cost["tensors"]]
    show_rows(("tensor", "shape", "how many"), rows)
    flops = cost["flops_per_token"]
    result.print(f"parameters: {cost['parameters']:,}")
    result.print(f"FLOPs a token, forward: {'not counted' if flops is None else quantity(flops).rstrip()}")
    result.print(f"KV cache a token: {cost['kv_cache_bytes_per_token']:,} bytes")
