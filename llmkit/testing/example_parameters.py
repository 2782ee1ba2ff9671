"""Example parameters of a component: what the laws are run with where nobody says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from llmkit.core.catalog import Catalog
from llmkit.core.component import Component, Params
from llmkit.core.errors import UserError


def examples(component: Component, catalog: Catalog) -> list[Params]:
    """Parameters to try, from what the parameters class says of itself.

    The first takes every default, and the first of the `examples` of each field that has none:

        n_heads: int = Field(description="query heads", examples=[4])
        window: int | None = Field(None, description="...", examples=[3])

    Each other example of a field makes one more, that field alone changed. Examples of fields that only work together are
    whole mappings: `model_config = ConfigDict(json_schema_extra={"examples": [{"window": 3, "sinks": True}]})`.

    `UserError` where a field has neither default nor example, or an example is refused.
    """
    return [validated(component, mapping, catalog) for mapping in _mappings(component)]


def validated(component: Component, params: Params | Mapping[str, Any], catalog: Catalog) -> Params:
    """Parameters as an object of the component's class; `UserError` with what pydantic says where they are refused."""
    if isinstance(params, Params):
        return params
    try:
        return component.params.model_validate(dict(params), context={"catalog": catalog})
    except ValidationError as error:
        raise UserError(f"example parameters {dict(params)} of {component.kind} {component.name!r} are refused: {error}") from error


def _mappings(component: Component) -> Iterator[dict[str, Any]]:
    fields = component.params.model_fields
    first: dict[str, Any] = {}
    for name, field in fields.items():
        if not field.is_required():
            continue
        if not field.examples:
            raise UserError(
                f"parameter {name!r} of {component.kind} {component.name!r} has no default and no example: "
                "write Field(..., examples=[...]), or pass parameters to the laws"
            )
        first[name] = field.examples[0]
    yield first
    for name, field in fields.items():
        others = (field.examples or [])[1 if field.is_required() else 0 :]
        yield from ({**first, name: value} for value in others)
    extra = component.params.model_config.get("json_schema_extra")
    whole = extra.get("examples", []) if isinstance(extra, dict) else []
    for mapping in whole:  # type: ignore[union-attr]
        yield {**first, **mapping}  # type: ignore[dict-item]
