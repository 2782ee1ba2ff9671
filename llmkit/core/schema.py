"""JSON Schema of a spec file for the installed catalog: what an editor completes and underlines.

A slot is `allOf` of `if type is X then X's parameters`, because a `oneOf` over forty components makes forty messages of one
mistake. Nothing is required inside the file, since any value may come from a layer below (`extends`, the defaults); what is
missing in the end, and what does not fit together, `llmkit spec check` says.
"""

from __future__ import annotations

from typing import Any

from llmkit.core.catalog import Catalog
from llmkit.core.component import Component
from llmkit.core.kinds import Kind
from llmkit.core.spec import ModelSpec, Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

UNDERSCORED = r"^[-+]?[0-9][0-9_]*$"
"""Whole numbers such as 2_000_000 are text to an editor and numbers to llmkit."""


def spec_schema(catalog: Catalog) -> dict[str, Any]:
    """The schema, as JSON holds it."""
    root = _shaped(Spec.model_json_schema())
    definitions: dict[str, Any] = root.pop("$defs")
    for kind in Kind:
        definitions[_slot(kind)] = _slot_schema(kind, catalog, definitions)
    root["properties"] |= {
        "extends": {"type": "string", "description": "the spec that this one is laid over: a path relative to this file, or recipe:NAME"},
        "derived": {"type": "object", "description": "what llmkit computed when it wrote this file; ignored, and computed again"},
    }
    return {
        "$schema": DIALECT,
        "title": "a spec of llmkit",
        **{key: value for key, value in root.items() if key != "title"},
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": ["model"], "properties": {"model": {"required": _required_of_model()}}},
        "$defs": definitions,
    }


def _required_of_model() -> list[str]:
    """Numbers of the model that no default can know; the other required fields are slots, which the defaults fill."""
    return [name for name, field in ModelSpec.model_fields.items() if field.is_required() and field.annotation is int]


def _slot(kind: Kind) -> str:
    return f"slot:{kind}"


def _slot_schema(kind: Kind, catalog: Catalog, definitions: dict[str, Any]) -> dict[str, Any]:
    found = [catalog.find(kind, name) for name in catalog.names(kind)]
    names = {"enum": [component.name for component in found], "description": _choices(found)}
    return {
        "description": f"a component of kind {kind}: its name, or a mapping with its `type` and parameters",
        "type": ["string", "object"],
        "properties": {"type": names},
        "allOf": [
            {"if": {"type": "string"}, "then": names},
            *({"if": _is(component), "then": _parameters(component, definitions)} for component in found),
        ],
    }


def _choices(found: list[Component]) -> str:
    return "\n".join(f"{component.name}: {component.summary}" for component in found)


def _is(component: Component) -> dict[str, Any]:
    return {"type": "object", "required": ["type"], "properties": {"type": {"const": component.name}}}


def _parameters(component: Component, definitions: dict[str, Any]) -> dict[str, Any]:
    """The object schema of a component's parameters. Definitions inside get names of their own, since two plugins may use one name."""
    prefix = f"{component.kind}:{component.name}:"
    schema = _shaped(component.params.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}"))
    for name, definition in schema.pop("$defs", {}).items():
        definitions[prefix + name] = definition
    properties = {"type": {"const": component.name, "description": component.summary}, **schema.get("properties", {})}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _shaped(schema: Any) -> Any:
    """pydantic's schema with slots as references, nothing required, and whole numbers that may have underscores."""
    if isinstance(schema, list):
        return [_shaped(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "slot" in schema:
        return {"$ref": f"#/$defs/{_slot(Kind(schema['slot']))}"} | {key: schema[key] for key in ("description",) if key in schema}
    branches = schema.get("anyOf", [])
    if len(branches) == 2 and {"type": "null"} in branches:
        # As a condition, so that an editor tells what is wrong with the value, and not that it is no null either.
        value = next(branch for branch in branches if branch != {"type": "null"})
        rest = {key: item for key, item in schema.items() if key != "anyOf"}
        return {**rest, "if": {"not": {"type": "null"}}, "then": _shaped(value)}
    shaped = {key: _shaped(value) for key, value in schema.items() if not (key == "required" and isinstance(value, list))}
    if shaped.get("type") == "integer":
        shaped |= {"type": ["integer", "string"], "pattern": UNDERSCORED}
    return shaped
